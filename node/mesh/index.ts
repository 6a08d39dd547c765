// The mesh room: how peers know, find, admit and talk to each other. libp2p lives here and nowhere else.

export { type AdmissionComponents, type JoinApplication, type JoinWish, joinFleet, serveJoins } from './admission.ts';
export {
  createIdentity,
  type Identity,
  identityFromSeed,
  loadIdentity,
  peerIdOfPublicKey,
  publicKeyOfPeerId,
  verifySignature,
} from './identity.ts';
export { createMesh, type MeshComponents, type MeshInit, type MeshMembers } from './mesh.ts';
export { createToken, type InviteKey, inviteKeyOf, parseToken } from './token.ts';
