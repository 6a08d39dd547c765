// Owns the ways to break consensus that its tests must notice: what is not written before it is said, votes and quorums that
// do not count right, and a log that is believed unseen.

import type { Mutant } from './mutant.ts';

const core = 'node/consensus';
const tests = 'test/consensus';
const random = `${tests}/simulation.test.ts`;
const scripted = `${tests}/core.test.ts`;
const lockstep = `${tests}/differential.slow.test.ts`;
const paperElections = `${tests}/paper-elections.test.ts`;
const paperReplication = `${tests}/paper-replication.test.ts`;
const traps = `${tests}/traps.test.ts`;
const writes = `${tests}/append-thread.test.ts`;
const store = `${tests}/log-store.test.ts`;
const witness = `${tests}/witness.test.ts`;
const flips = `${tests}/flipped-log.test.ts`;
const timing = `${tests}/timing.test.ts`;
const voters = `${tests}/consensus.test.ts`;
const quorums = `${tests}/quorum.test.ts`;
const engine = `${tests}/engine.test.ts`;
const stops = `${tests}/apply-thread.test.ts`;

export const consensusMutants: readonly Mutant[] = [
  {
    name: 'acknowledges before the disk has it',
    file: `${core}/append-thread.ts`,
    text: 'else await this.#writeEntries(',
    replacement: 'else void this.#writeEntries(',
    tests: [voters, writes],
  },
  {
    name: 'sends acknowledgements and votes beside the write',
    file: `${core}/core/raw-node.ts`,
    text: 'const responses = [...raft.messagesAfterAppend];',
    replacement: 'messages.push(...raft.messagesAfterAppend);\n      const responses: Message[] = [];',
    tests: [random],
  },
  {
    name: 'a lone leader counts its own entry before its disk has it',
    file: `${core}/core/raw-node.ts`,
    text: 'this.#onAdvance = raft.messagesAfterAppend.filter(isOwn);',
    replacement: 'for (const message of raft.messagesAfterAppend.filter(isOwn)) step(raft, message);',
    tests: [scripted],
  },
  {
    name: 'writes without syncing',
    file: `${core}/log-store.ts`,
    text: 'await this.#store.batch([...operations, putTail(tail)], { sync: true });',
    replacement: 'await this.#store.batch([...operations, putTail(tail)], { sync: false });',
    tests: [store],
  },
  {
    name: 'does not write its vote',
    file: `${core}/log-store.ts`,
    text: 'const tail = { ...hardState, commit, batch:',
    replacement: 'const tail = { ...hardState, vote: 0, commit, batch:',
    tests: [store],
  },
  {
    name: 'does not write its term',
    file: `${core}/log-store.ts`,
    text: 'const tail = { ...hardState, commit, batch:',
    replacement: 'const tail = { ...hardState, term: this.#hardState.term, commit, batch:',
    tests: [store],
  },
  {
    name: 'leaves a vote without entries unwritten',
    file: `${core}/append-thread.ts`,
    text: 'hardState.term !== before.term || hardState.vote !== before.vote;',
    replacement: 'hardState.term !== before.term;',
    tests: [writes],
  },
  {
    name: 'leaves a term without entries unwritten',
    file: `${core}/append-thread.ts`,
    text: 'hardState.term !== before.term || hardState.vote !== before.vote;',
    replacement: 'hardState.vote !== before.vote;',
    tests: [writes],
  },
  {
    name: 'commits entries of older terms by counting copies (figure 8)',
    file: `${core}/core/log.ts`,
    text: 'at.index <= this.#committed || !this.matches(at)',
    replacement: 'at.index <= this.#committed',
    tests: [scripted, paperReplication],
  },
  {
    name: 'no pre-vote',
    file: `${core}/core/step.ts`,
    text: "raft.options.preVote ? 'pre-election' : 'election'",
    replacement: "'election'",
    tests: [scripted],
  },
  {
    name: 'no check of the quorum',
    file: `${core}/core/leader.ts`,
    text: 'if (!raft.tracker.quorumActive()) becomeFollower(raft, raft.term, nobody);',
    replacement: '',
    tests: [scripted],
  },
  {
    name: 'helps to depose a leader that it hears',
    file: `${core}/core/election.ts`,
    text: 'return raft.options.checkQuorum && raft.leader !== nobody',
    replacement: 'return false && raft.leader !== nobody',
    tests: [scripted],
  },
  {
    name: 'votes twice in a term',
    file: `${core}/core/election.ts`,
    text: '(raft.vote === nobody && raft.leader === nobody)',
    replacement: 'raft.leader === nobody',
    tests: [scripted, paperElections],
  },
  {
    name: 'grants a vote and does not wait for what comes of it',
    file: `${core}/core/election.ts`,
    text: 'raft.electionElapsed = 0;\n    raft.vote = message.from;',
    replacement: 'raft.vote = message.from;',
    tests: [lockstep],
  },
  {
    name: 'votes for a candidate whose log is behind',
    file: `${core}/core/election.ts`,
    text: 'if (!mayVote || !raft.log.isUpToDate({ index: message.index, term: message.logTerm })) {',
    replacement: 'if (!mayVote) {',
    tests: [paperElections, random],
  },
  {
    name: 'counts the votes of non-members',
    file: `${core}/core/quorum.ts`,
    text: 'for (const raftId of voters) {\n    const vote',
    replacement: 'for (const raftId of new Set([...voters, ...votes.keys()])) {\n    const vote',
    tests: [quorums],
  },
  {
    name: 'hears strangers',
    file: `${core}/core/raw-node.ts`,
    text: "if (isResponseType(message.type) && !this.#raft.tracker.progress.has(message.from)) return 'unknown-member';",
    replacement: '',
    tests: [scripted],
  },
  {
    name: 'commits in a joint configuration by one half',
    file: `${core}/core/quorum.ts`,
    text: 'return Math.min(majorityIndex(voters.incoming, acked), majorityIndex(voters.outgoing, acked));',
    replacement: 'return majorityIndex(voters.incoming, acked);',
    tests: [quorums],
  },
  {
    name: 'elects in a joint configuration by one half',
    file: `${core}/core/quorum.ts`,
    text: 'const results = [majorityVote(voters.incoming, votes), majorityVote(voters.outgoing, votes)];',
    replacement: 'const results = [majorityVote(voters.incoming, votes)];',
    tests: [quorums],
  },
  {
    name: 'half of the voters are a majority',
    file: `${core}/core/quorum.ts`,
    text: 'Math.floor(count / 2) + 1',
    replacement: 'Math.ceil(count / 2)',
    tests: [quorums],
  },
  {
    name: 'changes voters while a change is under way',
    file: `${core}/core/membership.ts`,
    text: 'if (raft.pendingChangeIndex > applied) {',
    replacement: 'if (false) {',
    tests: [traps],
  },
  {
    name: 'stands for election with a change of voters still to apply',
    file: `${core}/core/election.ts`,
    text: '|| !isPromotable(raft) || hasUnappliedChange(raft)) return;',
    replacement: '|| !isPromotable(raft)) return;',
    tests: [traps],
  },
  {
    name: 'tells followers to commit beyond what they are known to hold',
    file: `${core}/core/replicate.ts`,
    text: 'Math.min(progress.match, raft.log.committed)',
    replacement: 'raft.log.committed',
    tests: [random],
  },
  {
    name: 'takes entries without looking at the one before them',
    file: `${core}/core/log.ts`,
    text: 'if (!this.matches(previous)) return undefined;',
    replacement: '',
    tests: [paperReplication],
  },
  {
    name: 'believes a write that a later term has replaced',
    file: `${core}/core/step.ts`,
    text: 'takeStorageAppended(raft, message, false);',
    replacement: 'takeStorageAppended(raft, message, true);',
    tests: [traps],
  },
  {
    name: 'answers reads before its first own commit',
    file: `${core}/core/leader.ts`,
    text: 'if (raft.log.term(raft.log.committed) !== raft.term) {',
    replacement: 'if (false) {',
    tests: [scripted],
  },
  {
    name: 'answers reads by its lease',
    file: `${core}/engine.ts`,
    text: "readMode: 'safe',",
    replacement: "readMode: 'lease',",
    tests: [`${tests}/consensus.test.ts`],
  },
  {
    name: 'answers reads by acknowledgements from before them',
    file: `${core}/core/read-queue.ts`,
    text: 'Math.min(position, this.#confirmed + this.#waiting.length)',
    replacement: 'position',
    tests: [scripted],
  },
  {
    name: 'opens a log whose chain does not fit',
    file: `${core}/log-records.ts`,
    text: 'if (record.previous !== place.chainHash || records.entryChainHash(place.chainHash, record) !== chainHash) {',
    replacement: 'if (false) {',
    tests: [store],
  },
  {
    name: 'opens a log that lacks its last batches',
    file: `${core}/log-store.ts`,
    text: 'if (log.lastIndex() !== tail.lastIndex || last !== tail.lastHash) {',
    replacement: 'if (false) {',
    tests: [store],
  },
  {
    name: 'believes records whose seal is broken',
    file: `${core}/log-records.ts`,
    text: 'if (records.sealOf(record) !== record.seal)',
    replacement: 'if (false)',
    tests: [store],
  },
  {
    name: 'acknowledges without a word to the witness',
    file: `${core}/log-store.ts`,
    text: 'await testify(this.#witness, tail);\n    this',
    replacement: 'this',
    tests: [witness, flips],
  },
  {
    name: 'acknowledges before the witness is synced',
    file: `${core}/log-store.ts`,
    text: 'await testify(this.#witness, tail);\n    this',
    replacement: 'void testify(this.#witness, tail).catch(() => undefined);\n    this',
    tests: [witness],
  },
  {
    name: 'tells the witness before the database',
    file: `${core}/log-store.ts`,
    text: 'await this.#store.batch([...operations, putTail(tail)], { sync: true });',
    replacement:
      'await testify(this.#witness, tail);\n    await this.#store.batch([...operations, putTail(tail)], { sync: true });',
    tests: [witness],
  },
  {
    name: 'opens without asking the witness',
    file: `${core}/log-store.ts`,
    text: 'await confirm(witness, tail);',
    replacement: '',
    tests: [witness, flips],
  },
  {
    name: 'the witness does not look at the vote',
    file: `${core}/witness.ts`,
    text: 'tail.vote === noted.vote && ',
    replacement: '',
    tests: [witness],
  },
  {
    name: 'the witness lets later batches take back a vote',
    file: `${core}/witness.ts`,
    text: 'return noted.vote !== 0 && tail.vote !== noted.vote;',
    replacement: 'return false;',
    tests: [witness],
  },
  {
    name: 'opens a log whose witness is gone',
    file: `${core}/witness.ts`,
    text: "if (tail.batch > 0) throw damaged('its witness is missing or cannot be read');",
    replacement: '',
    tests: [witness],
  },
  {
    name: 'begins anew with an empty database beside its witness',
    file: `${core}/log-store.ts`,
    text: 'if (await readWitness(witness)) return;',
    replacement: '',
    tests: [witness],
  },
  {
    name: 'leaves entries of a failed batch behind',
    file: `${core}/log-store.ts`,
    text: 'return Math.max(this.log.lastIndex(), this.#doubtfulTo ?? 0);',
    replacement: 'return this.log.lastIndex();',
    tests: [witness],
  },
  {
    name: 'the witness file writes over its only whole slot',
    file: 'node/store/witness-file.ts',
    text: 'position: last.position === 0 ? 1 : 0,',
    replacement: 'position: last.position,',
    tests: ['test/store/witness-file.test.ts'],
  },
  {
    name: 'elections take as long on slow links as on fast ones',
    file: `${core}/engine.ts`,
    text: 'if (this.#ticks % measureTicks === 0) this.#adaptElections();',
    replacement: '',
    tests: [timing],
  },
  {
    name: 'waits for a leader no longer than before, whatever it is told',
    file: `${core}/core/raw-node.ts`,
    text: 'this.#raft.electionTicks = ticks;',
    replacement: '',
    tests: [timing],
  },
  {
    name: 'all stand at once when the connection to the leader is gone',
    file: `${core}/timing-core.ts`,
    text: 'Math.max(inTurn.indexOf(self), 0) + jitter',
    replacement: 'jitter',
    tests: [timing],
  },
  {
    name: 'takes messages under a false name',
    file: `${core}/message-links.ts`,
    text: 'if (sender === undefined || from !== sender || to !== own.raftId) {',
    replacement: 'if (from === to) {',
    tests: [voters],
  },
  {
    name: 'waits for ever for a state machine that has stopped',
    file: `${core}/apply-thread.ts`,
    text: 'if (signal.aborted) return Promise.reject(stopped());',
    replacement: '',
    tests: [stops],
  },
  {
    name: 'takes any number of proposals at one moment',
    file: `${core}/requests.ts`,
    text: 'hasRoomBeside(batch.size)',
    replacement: 'hasRoomBeside(0)',
    tests: [voters],
  },
  {
    name: 'leaves those who wait alone when a rule of its own is broken',
    file: `${core}/engine.ts`,
    text: '    this.#endWaits();\n    this.#components.onRoleChange();\n',
    replacement: '    this.links.stop();\n    this.#components.onRoleChange();\n',
    tests: [engine],
  },
  {
    name: 'keeps streams to voters that are gone',
    file: `${core}/engine.ts`,
    text: '        this.#dropLinks();\n',
    replacement: '',
    tests: [voters],
  },
];
