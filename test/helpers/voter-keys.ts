// Voting keys that tests sign with: by name, the same in every run. Certificates as voters in order make them, and as others do.

import { createHash } from 'node:crypto';
import { type Identity, identityFromSeed } from '../../node/mesh/identity.ts';
import {
  type Certificate,
  type CertifiedPlace,
  certificateStatement,
  type VoterSet,
} from '../../protocols/certificate.ts';

const identities = new Map<string, Identity>();
const byKey = new Map<string, Identity>();

/** The voting key of a peer. */
export function voterIdentityOf(name: string): Identity {
  const known = identities.get(name);
  if (known !== undefined) return known;
  const made = identityFromSeed(new Uint8Array(createHash('sha256').update(`${name} votes`).digest()));
  identities.set(name, made);
  byKey.set(made.peer, made);
  return made;
}

/** A certificate by voters of a set: all of them, or those with these raft ids. */
export function signedBy(
  set: VoterSet,
  fleet: string,
  {
    index,
    chainHash,
    generation = set.generation,
  }: Omit<CertifiedPlace, 'generation'> & { readonly generation?: number },
  raftIds?: readonly number[],
): Certificate {
  const statement = certificateStatement(fleet, { generation, index, chainHash });
  const voters = new Map([...set.voters, ...set.votersOutgoing].map(({ raftId, key }) => [raftId, key]));
  const signatures = (raftIds ?? [...voters.keys()]).map((raftId) => {
    const signer = byKey.get(voters.get(raftId) ?? '');
    if (signer === undefined) throw new Error(`no key of voter ${raftId} is at hand`);
    return { raftId, signature: signer.sign(statement) };
  });
  return { version: 1, generation, index, chainHash, signatures };
}
