// Owns the ways to break who belongs to a fleet and who votes that their tests must notice: votes that outlive their logs,
// fleets left without a voter, generations that anybody begins.

import type { Mutant } from './mutant.ts';

const rules = 'test/ledger/voters-core.test.ts';
const votes = 'test/node/vote.test.ts';
const voting = 'test/node/voting.test.ts';
const recoveredLog = 'test/node/recovery-log.test.ts';
const recovery = 'test/node/recovery.test.ts';
const generations = 'test/ledger/generations.test.ts';
const members = 'test/ledger/members-core.test.ts';
const joins = 'test/control/joining.test.ts';

export const membershipMutants: readonly Mutant[] = [
  {
    name: 'lets peers join that have no token',
    file: 'protocols/ledger-rules.ts',
    text: 'if (!isJoinProven(state.fleet, facts, proof)) {',
    replacement: 'if (proof.key.byteLength === 0) {',
    tests: [members, joins],
  },
  {
    name: 'lets whoever carries a join on put other keys into it',
    file: 'protocols/invite-proof.ts',
    text: 'peer, addresses, system, ...keys });',
    replacement: 'peer, addresses, system, keys: Object.keys(keys) });',
    tests: [members, joins],
  },
  {
    name: 'gives a member other keys when it joins again',
    file: 'node/ledger/members-core.ts',
    text: "if ('member' in joining) return { state };",
    replacement: "if ('member' in joining) return { state: putFacts(state, joining.member, facts) };",
    tests: [members],
  },
  {
    name: 'takes joins to the ledger that it will refuse',
    file: 'node/control/control.ts',
    text: "entry.kind === 'member-joined' && 'member' in judgeJoin(state, entry.body)",
    replacement: "entry.kind === 'member-joined' && state.members[entry.body.peer] !== undefined",
    tests: [joins],
  },
  {
    name: 'grants the vote of another key',
    file: 'node/control/admission.ts',
    text: 'member.voterKey === voterKey ? member.raftId : 0',
    replacement: 'member.raftId',
    tests: [joins],
  },
  {
    name: 'waits for ever under a raft id that was dropped before it voted',
    file: 'node/wiring/vote-watch.ts',
    text: 'if (isForlorn() && !isBusy())',
    replacement: 'if (isForlorn() && isBusy())',
    tests: ['test/node/vote-watch.test.ts'],
  },
  {
    name: 'does not know voters that were proven to it',
    file: 'node/ledger/member-views.ts',
    text: 'for (const voter of voters) byPeer.set(',
    replacement: 'for (const voter of voters.slice(0, 0)) byPeer.set(',
    tests: ['test/ledger/voter-set-watch.test.ts'],
  },
  {
    name: 'asks only voters where all that it knows are gone',
    file: 'node/ledger/pull-sources.ts',
    text: 'return turn % 2 === 0 ? [away, others] : [others, away];',
    replacement: 'return others.length > 0 ? [away] : [away];',
    tests: ['test/ledger/voter-set-watch.test.ts'],
  },
  {
    name: 'takes the vote of the last voter',
    file: 'node/ledger/voters-core.ts',
    text: '  if (!counted.has(member.raftId)) return;\n',
    replacement: '  if (counted.has(member.raftId)) return;\n',
    tests: [rules],
  },
  {
    name: 'drops a removed voter before consensus does',
    file: 'node/ledger/voters-core.ts',
    text: 'leaving === true && !counted.has(peer)',
    replacement: 'leaving === true',
    tests: [rules],
  },
  {
    name: 'leaves the invites of a removed peer open',
    file: 'node/ledger/departures-core.ts',
    text: 'invite.usedBy === peer || invite.name === name',
    replacement: 'invite.usedBy === peer && invite.name !== name',
    tests: [rules],
  },
  {
    name: 'keeps the old log under a new raft id',
    file: 'node/wiring/vote-folder.ts',
    text: "        case 'take-up':\n          await clearLog();\n",
    replacement: "        case 'take-up':\n",
    tests: [votes],
  },
  {
    name: 'gives a vote up without its key',
    file: 'node/wiring/vote-folder.ts',
    text: "        case 'give-up':\n          await files.remove(keyFile);\n",
    replacement: "        case 'give-up':\n",
    tests: [votes],
  },
  {
    name: 'sets a damaged log aside and keeps its key till last',
    file: 'node/wiring/vote-folder.ts',
    text: '          await files.remove(keyFile);\n          await setLogAside();\n',
    replacement: '          await setLogAside();\n          await files.remove(keyFile);\n',
    tests: [votes],
  },
  {
    name: 'starts a peer that the fleet has removed',
    file: 'node/wiring/vote-folder.ts',
    text: '    if (membership.removed) throw removedError(membership.name);\n',
    replacement: '',
    tests: [votes],
  },
  {
    name: 'votes on under a raft id that a new key has replaced',
    file: 'node/wiring/vote-plan.ts',
    text: 'return raftId > 0 && voterKey === own.key ?',
    replacement: 'return raftId > 0 ?',
    tests: [votes],
  },
  {
    name: 'lets a removed peer open streams as long as it stays connected',
    file: 'node/mesh/links.ts',
    text: "clock.after(farewellMs, () => drop(connection, new Error('no longer a member')))",
    replacement: 'clock.after(farewellMs, () => undefined)',
    tests: ['test/mesh/membership.test.ts'],
  },
  {
    name: 'leaves the voters without a majority that is there',
    file: 'node/control/commands/voters.ts',
    text: 'there >= majorityOf(left.length)) return;',
    replacement: 'there >= 0) return;',
    tests: ['test/control/voters.test.ts'],
  },
  {
    name: 'takes each voter without a log for the founder of a generation',
    file: 'node/wiring/voting.ts',
    text: 'voters.some(({ peer, raftId }) => peer === init.self && raftId === init.raftId)',
    replacement: 'voters.length > 0',
    tests: [voting],
  },
  {
    name: 'counts on voters that were gone when it last noted who votes',
    file: 'node/wiring/voting.ts',
    text: '...(isNoted ? [] : inState)',
    replacement: '...inState',
    tests: [voting],
  },
  {
    name: 'recovers up to what the last batch knew to be committed',
    file: 'node/consensus/offline-log.ts',
    text: 'if (entry === undefined) return entries;',
    replacement: 'if (entry === undefined || entry.index > (tail?.commit ?? 0)) return entries;',
    tests: [recoveredLog],
  },
  {
    name: 'takes nothing of a log in which a bit is flipped',
    file: 'node/consensus/offline-log.ts',
    text: 'for (let last = place; ; ) {',
    replacement: 'for (let last = place; ; ) {\n        if (damage !== null) return entries;',
    tests: [recoveredLog],
  },
  {
    name: 'deletes the log that a recovery begins from',
    file: 'node/wiring/vote-folder.ts',
    text: '      await setLogAside(setAsideBefore(record.number));\n',
    replacement: '      await clearLog();\n',
    tests: [recoveredLog],
  },
  {
    name: 'sets the log aside before its entries are kept',
    file: 'node/wiring/vote-folder.ts',
    text: '      await keepLedger();\n      await setLogAside(setAsideBefore(record.number));\n',
    replacement: '      await setLogAside(setAsideBefore(record.number));\n      await keepLedger();\n',
    tests: [recoveredLog],
  },
  {
    name: 'keeps entries that may never be committed after a mere look',
    file: 'node/store/tentative-store.ts',
    text: '    async batch(operations) {\n',
    replacement: '    async batch(operations, options) {\n      await store.batch(operations, options);\n',
    tests: [recoveredLog],
  },
  {
    name: 'starts a peer whose recovery was cut off',
    file: 'node/wiring/vote-folder.ts',
    text: 'if (membership.raftId === 0 && begun.includes(',
    replacement: 'if (membership.raftId < 0 && begun.includes(',
    tests: [recovery],
  },
  {
    name: 'believes a generation that nobody has signed',
    file: 'node/wiring/recovery-key.ts',
    text: '  if (record.signature === null) return false;\n',
    replacement: '  if (record.signature === null) return true;\n',
    tests: [recovery],
  },
  {
    name: 'takes a rival for the generation that it keeps to',
    file: 'node/wiring/generation-exchange.ts',
    text: '        if (pinned === undefined) fresh.push(record);',
    replacement: '        if (pinned === undefined || generationHash(pinned) !== hash) fresh.push(record);',
    tests: [recovery],
  },
  {
    name: 'keeps an older generation’s vote in a newer one',
    file: 'node/wiring/vote-folder.ts',
    text: '          const { generations = [] } = await loadMembership(stateFolder);\n          await files.remove(keyFile);\n',
    replacement: '          const { generations = [] } = await loadMembership(stateFolder);\n',
    tests: [recovery],
  },
  {
    name: 'keeps what an older generation had after the base',
    file: 'protocols/generation.ts',
    text: 'number > place.generation && place.index > baseIndex',
    replacement: 'number > place.generation && place.index < baseIndex',
    tests: [generations],
  },
  {
    name: 'keeps the entries of an older generation on the disk',
    file: 'node/ledger/ledger.ts',
    text: '        await log.dropAfter(overruling.baseIndex);\n',
    replacement: '',
    tests: [generations],
  },
];
