// Owns the ways in which a voter can fail as it starts and runs: callers who wait for ever, a lead handed to nobody, and what
// a write or a snapshot leaves behind.

import type { Mutant } from './mutant.ts';

const core = 'node/consensus';
const store = 'test/consensus/log-store.test.ts';
const engine = 'test/consensus/engine.test.ts';
const voter = 'test/consensus/voter.test.ts';

export const runningMutants: readonly Mutant[] = [
  {
    name: 'compacts the log while a snapshot may be on the disk',
    file: `${core}/log-store.ts`,
    text: 'base.index <= this.#base.index || this.#doubtfulTo !== undefined',
    replacement: 'base.index <= this.#base.index',
    tests: [store],
  },
  {
    name: 'leaves those who wait for a deposed leader alone',
    file: `${core}/engine.ts`,
    text: 'if (this.#ticksNotLeading === patienceElections * this.#electionTicks) {',
    replacement: 'if (false as boolean) {',
    tests: [engine],
  },
  {
    name: 'hands its lead to voters that are silent',
    file: `${core}/requests.ts`,
    text: 'id !== raftId && recentActive &&',
    replacement: 'id !== raftId && (recentActive || true) &&',
    tests: [voter],
  },
  {
    name: 'keeps the body of a snapshot that it has restored as it started',
    file: `${core}/voter.ts`,
    text: '  await store.dropPendingBody();\n',
    replacement: '',
    tests: [voter],
  },
];
