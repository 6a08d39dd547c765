// Owns the ways to break a whole fleet that the simulator must notice by itself: what is said before it is on disk, orders
// that should not be carried out, commands that are applied twice.

import type { Mutant } from './mutant.ts';

const tests = ['test/simulation/fleet.slow.test.ts'];

export const fleetMutants: readonly Mutant[] = [
  {
    name: 'in a fleet: acknowledges what is not synced',
    file: 'node/consensus/log-store.ts',
    text: 'await this.#store.batch([...operations, putTail(tail)], { sync: true });',
    replacement: 'await this.#store.batch([...operations, putTail(tail)], { sync: false });',
    tests,
  },
  {
    name: 'in a fleet: acknowledges before the write',
    file: 'node/consensus/append-thread.ts',
    text: 'else await this.#writeEntries(',
    replacement: 'else void this.#writeEntries(',
    tests,
  },
  {
    name: 'in a fleet: forgets its vote',
    file: 'node/consensus/log-store.ts',
    text: 'const tail = { ...hardState, commit, batch:',
    replacement: 'const tail = { ...hardState, vote: 0, commit, batch:',
    tests,
  },
  {
    name: 'in a fleet: opens a log without asking its witness',
    file: 'node/consensus/log-store.ts',
    text: '  await confirm(witness, tail);\n',
    replacement: '',
    tests,
  },
  {
    name: 'in a fleet: goes on with a disk that was put back',
    file: 'node/consensus/incoming.ts',
    text: 'this.#init.onForgotten(',
    replacement: 'void (',
    tests,
  },
  {
    name: 'in a fleet: allots another raft id to a voter whose vote is only being taken',
    file: 'node/ledger/voters-core.ts',
    text: '...(counted === undefined ? {} : { raftId: counted.raftId, voterKey: counted.key }),',
    replacement: '',
    tests,
  },
  {
    name: 'in a fleet: no floor on devices',
    file: 'node/device/device-core.ts',
    text: "if (age < 0) return 'ignore';",
    replacement: '',
    tests,
  },
  {
    name: 'in a fleet: the floor is not on disk before the effect',
    file: 'node/device/slot.ts',
    text: "await journal.append(makeDraft(facts), [...operations, { type: 'put', key: toldKey, value: encode(told) }]);",
    replacement:
      "await journal.append(makeDraft(facts), [{ type: 'put', key: toldKey, value: encode(told) }]);\n    await store.batch(operations, { sync: false });",
    tests,
  },
  {
    name: 'in a fleet: applies a repeated command again',
    file: 'node/ledger/ledger-core.ts',
    text: 'if (known !== undefined) return { state: timed, result: known, entry };',
    replacement: '',
    tests,
  },
  {
    name: 'in a fleet: gives orders without an approval',
    file: 'node/ledger/orders-core.ts',
    text: "if (!plan?.approved) throw refusal('not-approved',",
    replacement: "if (plan === undefined) throw refusal('not-approved',",
    tests,
  },
  {
    name: 'in a fleet: takes a no for a yes',
    file: 'node/ledger/plans-core.ts',
    text: "const isApproved = body.verdict === 'approve';",
    replacement: 'const isApproved = true;',
    tests,
  },
  {
    name: 'in a fleet: a snapshot is restored without its chain hash',
    file: 'node/ledger/replica.ts',
    text: '      state = next;\n',
    replacement: '      state = { ...next, chainHash: state.chainHash };\n',
    tests,
  },
];
