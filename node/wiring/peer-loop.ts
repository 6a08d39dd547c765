// Owns the life of a peer across the changes of its part in the fleet: the same process starts it anew as a voter or as a
// member, until it is told to stop or the fleet has removed it.

import type { Startable } from '../interfaces.ts';
import { lockStateFolder } from '../store/index.ts';
import { createVoteFolder, type VoteFolder } from './vote-folder.ts';
import type { VoteTurn } from './vote-plan.ts';

export interface TurningPeer extends Startable {
  /** Resolves when the peer must be stopped and created anew after this. */
  readonly turned: Promise<VoteTurn>;
}

/**
 * Runs the peer of a state folder until `ended` resolves.
 * @throws ParleyError of whatever part cannot be opened or started; `removed` where the fleet has removed the peer.
 */
export async function runPeer(init: {
  readonly stateFolder: string;
  readonly create: () => Promise<TurningPeer>;
  readonly ended: Promise<void>;
}): Promise<void> {
  const lock = await lockStateFolder(init.stateFolder);
  const folder = createVoteFolder(init.stateFolder);
  try {
    await folder.settle();
    while (await runOnce(init, folder)) await folder.settle();
  } finally {
    await lock.release();
  }
}

/** @returns true when the peer is to start anew. */
async function runOnce(
  { create, ended }: Pick<Parameters<typeof runPeer>[0], 'create' | 'ended'>,
  folder: VoteFolder,
): Promise<boolean> {
  const peer = await create();
  const stopped = ended.then(() => undefined);
  let turn: VoteTurn | undefined;
  try {
    await peer.start();
    turn = await Promise.race([peer.turned, stopped]);
  } catch (error) {
    turn = await Promise.race([peer.turned, Promise.reject(error)]);
  } finally {
    await peer.stop();
  }
  if (turn === undefined) return false;
  await folder.carryOut(turn);
  return true;
}
