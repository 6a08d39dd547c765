// Owns the ways in which a voter can make too much or too little of what other voters say: what it takes for granted, what it
// answers to no end, and what it does not see. Also what a controller answers without their word.

import type { Mutant } from './mutant.ts';

const core = 'node/consensus';
const messages = 'test/consensus/message.test.ts';
const snapshots = 'test/consensus/snapshot-links.test.ts';
const putBack = 'test/consensus/put-back.test.ts';
const leadership = 'test/node/leadership.test.ts';
const voteWatch = 'test/node/vote-watch.test.ts';

export const voterMutants: readonly Mutant[] = [
  {
    name: 'calls a proposal lost as soon as another one has its place in this log',
    file: 'node/consensus/waiters.ts',
    text: 'older?.reject(unknown(',
    replacement: 'older?.reject(lost(index), unknown(',
    tests: ['test/consensus/waiters.test.ts'],
  },
  {
    name: 'takes any term that another voter names',
    file: `${core}/message-links.ts`,
    text: 'if (term <= own.term() + termAheadMax) return;',
    replacement: 'if (term <= own.term() + 2 ** 49) return;',
    tests: [messages],
  },
  {
    name: 'is alarmed by acknowledgements of an earlier term',
    file: `${core}/incoming.ts`,
    text: 'if (term < own.term) return true;',
    replacement: '',
    tests: [messages],
  },
  {
    name: 'hands on other voters’ reads in their names',
    file: `${core}/incoming.ts`,
    text: "if (type === 'read-index') return own.role === 'leader';",
    replacement: '',
    tests: [messages],
  },
  {
    name: 'goes on with a disk that was put back before what it acknowledged',
    file: `${core}/incoming.ts`,
    text: 'this.#init.onForgotten(',
    replacement: 'void (',
    tests: [putBack],
  },
  {
    name: 'stops at the word of somebody who does not vote',
    file: `${core}/incoming.ts`,
    text: 'if (isLeader && isVoter) {',
    replacement: 'if (isLeader) {',
    tests: [messages],
  },
  {
    name: 'sends again at once what a follower refuses that it had acknowledged',
    file: `${core}/incoming.ts`,
    text: 'if (match === 0 || index > match) return false;',
    replacement: 'return false;',
    tests: [putBack],
  },
  {
    name: 'tells nobody of a voter that has lost what it acknowledged',
    file: `${core}/requests.ts`,
    text: 'engine.failure() ?? engine.alarm() ?? certifier?.alarm;',
    replacement: 'engine.failure() ?? certifier?.alarm;',
    tests: [putBack],
  },
  {
    name: 'stays a voter after it has stopped for what it lost',
    file: 'node/wiring/voting.ts',
    text: 'if (failure?.code === damagedLogCode) onDamage(failure);',
    replacement: '',
    tests: ['test/node/voting.test.ts'],
  },
  {
    name: 'undoes a switch for what its voter lost',
    file: 'node/wiring/vote-watch.ts',
    text: 'if (stops.length === 0) resolve(aside);',
    replacement: 'if (stops.length >= 0) resolve(aside);',
    tests: [voteWatch],
  },
  {
    name: 'lets whoever is no voter wait with a snapshot',
    file: `${core}/snapshot-links.ts`,
    text: 'if (members.raftIdOf(peer) === undefined) {',
    replacement: 'if (false) {',
    tests: [snapshots],
  },
  {
    name: 'waits long for the beginning of a snapshot',
    file: `${core}/snapshot-links.ts`,
    text: 'this.#deadline(headerTimeoutMs)',
    replacement: 'this.#deadline()',
    tests: [snapshots],
  },
  {
    name: 'keeps to the snapshot of a leader that was deposed',
    file: `${core}/snapshot-links.ts`,
    text: 'term > current.term ||',
    replacement: 'term < current.term ||',
    tests: [snapshots],
  },
  {
    name: 'receives any number of snapshots at once',
    file: `${core}/snapshot-links.ts`,
    text: 'if (!isNewer) throw',
    replacement: 'if (false) throw',
    tests: [snapshots],
  },
  {
    name: 'answers reads as the controller that it may be no more',
    file: 'node/control/control.ts',
    text: 'if (current && isReadCommand(command.name)) {',
    replacement: 'if (false) {',
    tests: ['test/control/reads.test.ts'],
  },
  {
    name: 'confirms its leadership by itself',
    file: 'node/wiring/leadership.ts',
    text: 'await consensus.readIndex({ signal });',
    replacement: 'signal.throwIfAborted();',
    tests: [leadership],
  },
  {
    name: 'leads before it has applied what was committed before its term',
    file: 'node/wiring/leadership.ts',
    text: "return role === 'leader' && state().term === term;",
    replacement: "return role === 'leader';",
    tests: [leadership],
  },
  {
    name: 'knows nobody else that leads',
    file: 'node/wiring/leadership.ts',
    text: 'return leader === undefined ? null : (peerOf(leader) ?? null);',
    replacement: 'return null;',
    tests: [leadership],
  },
  {
    name: 'gives a vote to a learner however much it lacks',
    file: 'node/wiring/leadership.ts',
    text: ' && lastIndex - learner.match <= promotionLagMax;',
    replacement: ';',
    tests: [leadership],
  },
  {
    name: 'changes the voters again before those before have signed',
    file: 'node/wiring/leadership.ts',
    text: 'return before === undefined ? certifiedIndex() > index : before.generation !== generation;',
    replacement: 'return true;',
    tests: [leadership],
  },
  {
    name: 'gives up as a learner that hears no leader for a while',
    file: 'node/wiring/vote-watch.ts',
    text: 'return !learners.includes(init.raftId) && !counted',
    replacement: 'return learners.length >= 0 && !counted',
    tests: [voteWatch],
  },
  {
    name: 'undoes a switch for a raft id that counts nowhere',
    file: 'node/wiring/vote-watch.ts',
    text: 'if (isForlorn() && !isBusy())',
    replacement: 'if (isForlorn())',
    tests: [voteWatch],
  },
  {
    name: 'takes the vote that is to come for the one that is over',
    file: 'node/wiring/vote-plan.ts',
    text: 'if (member?.raftId === raftId)',
    replacement: 'if (member !== undefined && raftId > 0)',
    tests: ['test/node/vote.test.ts'],
  },
  {
    name: 'takes the role of the last that is to vote',
    file: 'node/ledger/voters-core.ts',
    text: 'if (others.length > 0 && !counted.has(member.raftId)) return;',
    replacement: 'if (!counted.has(member.raftId)) return;',
    tests: ['test/ledger/voters-core.test.ts'],
  },
];
