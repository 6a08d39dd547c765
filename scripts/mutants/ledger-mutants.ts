// Owns the ways to break the ledger's rules that their tests must notice: who may, what was approved, what counts once.

import type { Mutant } from './mutant.ts';

const deploys = 'test/ledger/deploys-core.test.ts';
const members = 'test/ledger/members-core.test.ts';
const orders = 'test/ledger/orders-core.test.ts';
const project = 'test/ledger/project-core.test.ts';
const voters = 'test/ledger/ledger.test.ts';
const trust = 'test/ledger/trust-core.test.ts';
const pulling = 'test/ledger/entry-pull.test.ts';
const away = 'test/ledger/catch-up.test.ts';

export const ledgerMutants: readonly Mutant[] = [
  {
    name: 'leaves blobs with the voters that had them first',
    file: 'node/ledger/blob-gatherer.ts',
    text: '(await blobs.has(hash)) || (await fetched(hash))',
    replacement: '(await blobs.has(hash))',
    tests: ['test/ledger/blobs.test.ts'],
  },
  {
    name: 'orders what nobody approved',
    file: 'node/ledger/orders-core.ts',
    text: 'if (!plan?.approved) throw',
    replacement: 'if (!plan) throw',
    tests: [deploys],
  },
  {
    name: 'orders a host twice for one plan',
    file: 'node/ledger/orders-core.ts',
    text: "if (child.status !== 'pending') {",
    replacement: "if (child.status === 'completed') {",
    tests: [deploys],
  },
  {
    name: 'authors approve their own plans',
    file: 'node/ledger/plans-core.ts',
    text: "if (verdict === 'approve' && !mayApprove(state, plan, actor)) {",
    replacement: "if (verdict !== 'approve' && !mayApprove(state, plan, actor)) {",
    tests: [deploys],
  },
  {
    name: 'everybody has every role',
    file: 'protocols/ledger-rules.ts',
    text: 'return rolesOf(state, actor).includes(role);',
    replacement: 'return rolesOf(state, actor).length >= 0 || role === actor;',
    tests: [deploys],
  },
  {
    name: 'a deploy outlives a commit that came before its approval',
    file: 'node/ledger/project-core.ts',
    text: "if (task.type !== 'deploy' || task.stage !== 'approval' || !isOpen(task)) continue;",
    replacement: "if (task.type !== 'deploy' || isOpen(task)) continue;",
    tests: [project],
  },
  {
    name: 'applies entries that do not chain',
    file: 'node/ledger/replica.ts',
    text: '&& entry.chainHash === entryChainHash(state.chainHash, entry);',
    replacement: ';',
    tests: [voters],
  },
  {
    name: 'roots count as several people',
    file: 'protocols/ledger-rules.ts',
    text: 'return actor === other || (actor.startsWith(rootPrefix) && other.startsWith(rootPrefix));',
    replacement: 'return actor === other;',
    tests: [deploys],
  },
  {
    name: 'approves a plan that is not the one in force',
    file: 'node/ledger/plans-core.ts',
    text: 'if (task.plan !== body.plan) throw stale(task);',
    replacement: '',
    tests: [deploys],
  },
  {
    name: 'changes of the policy need no approval',
    file: 'node/ledger/plans-core.ts',
    text: 'const needsApproval = changesPolicy || hosts',
    replacement: 'const needsApproval = hosts',
    tests: [deploys],
  },
  {
    name: 'hosts without a word in the policy approve themselves',
    file: 'node/ledger/plans-core.ts',
    text: "return !Object.hasOwn(hosts, host) || hosts[host]?.approval !== 'auto';",
    replacement: "return Object.hasOwn(hosts, host) && hosts[host]?.approval !== 'auto';",
    tests: [deploys],
  },
  {
    name: 'adopts a policy that was never deployed',
    file: 'node/ledger/plans-core.ts',
    text: 'if (state.policy !== null && !wasDeployed(state, body.revision)) {',
    replacement: 'if (false) {',
    tests: [deploys],
  },
  {
    name: 'invites work twice',
    file: 'protocols/ledger-rules.ts',
    text: "if (usedBy !== null) throw joinRefusal('invite-used'",
    replacement: "if (usedBy === '') throw joinRefusal('invite-used'",
    tests: [members],
  },
  {
    name: 'invites never expire',
    file: 'protocols/ledger-rules.ts',
    text: 'if (expiresAtMs <= state.timeMs) {',
    replacement: 'if (expiresAtMs < 0) {',
    tests: [members],
  },
  {
    name: 'raft ids are used again',
    file: 'node/ledger/members-core.ts',
    text: 'nextRaftId: nextRaftId + (isNewVoter ? 1 : 0)',
    replacement: 'nextRaftId',
    tests: [members],
  },
  {
    name: 'applies a command twice',
    file: 'node/ledger/ledger-core.ts',
    text: 'if (known !== undefined) return { state: timed, result: known, entry };',
    replacement: '',
    tests: [members],
  },
  {
    name: "the ledger's time goes back",
    file: 'node/ledger/ledger-core.ts',
    text: 'timeMs: Math.max(moved.timeMs, entry.timeMs)',
    replacement: 'timeMs: entry.timeMs',
    tests: [members],
  },
  {
    name: 'takes old reports for new ones',
    file: 'node/ledger/orders-core.ts',
    text: 'if (body.incarnation === before.incarnation && body.sequence > before.sequence) return;',
    replacement: 'if (body.incarnation === before.incarnation) return;',
    tests: [orders],
  },
  {
    name: 'members apply pages that no certificate covers',
    file: 'node/ledger/trust-core.ts',
    text: '  proveCertificate(trust, certificate, serving);\n  const newest',
    replacement: '  const newest',
    tests: [trust, pulling],
  },
  {
    name: 'takes a change of voters under a later certificate',
    file: 'node/ledger/trust-core.ts',
    text: 'if (page.endsWithConfiguration === true) {',
    replacement: 'if (page.endsWithConfiguration === undefined && entries.length === 0) {',
    tests: [trust],
  },
  {
    name: 'judges a certificate by the first voters for ever',
    file: 'node/ledger/trust-core.ts',
    text: 'const set = sets.findLast((each) => each.index < index);',
    replacement: 'const set = sets.find((each) => each.index < index);',
    tests: [trust, away],
  },
  {
    name: 'one half of a joint set certifies',
    file: 'protocols/certificate.ts',
    text: 'return holds(set.voters) && (set.votersOutgoing.length === 0 || holds(set.votersOutgoing));',
    replacement: 'return holds(set.voters);',
    tests: [trust, 'test/consensus/certifier-core.test.ts'],
  },
  {
    name: 'counts a voter as often as it has signed',
    file: 'protocols/certificate.ts',
    text: 'voters.filter(({ raftId }) => raftIds.has(raftId)).length * 2 > voters.length;',
    replacement: 'voters.filter(({ raftId }) => raftIds.has(raftId)).length * 2 > voters.length - 3;',
    tests: [trust],
  },
  {
    name: 'takes the state of a checkpoint without looking at its hash',
    file: 'node/ledger/trust-core.ts',
    text: 'if (hash !== checkpoint.stateHash) {',
    replacement: 'if (hash.length !== 64) {',
    tests: [trust],
  },
  {
    name: 'takes a checkpoint whose entry does not chain to its certificate',
    file: 'node/ledger/trust-core.ts',
    text: 'if (certificate.index !== place.index || certificate.chainHash !== place.chainHash) {',
    replacement: 'if (certificate.index !== place.index) {',
    tests: [trust],
  },
  {
    name: 'takes a state with other voters than were proven',
    file: 'node/ledger/trust-core.ts',
    text: 'const isWhole = hashOf(state.voterSet) === hashOf(voters);',
    replacement: 'const isWhole = voters !== undefined;',
    tests: [trust],
  },
  {
    name: 'forgets what is certified when another history comes',
    file: 'node/ledger/trust-core.ts',
    text: 'if (certain === undefined || certain === chainHash) return;',
    replacement: 'if (certain !== chainHash) return;',
    tests: [trust],
  },
  {
    name: 'keeps uncertified entries without a bound',
    file: 'node/ledger/trust-core.ts',
    text: 'if (entries.length > uncertifiedEntriesMax || bytes > uncertifiedBytesMax) {',
    replacement: 'if (entries.length < 0) {',
    tests: [trust],
  },
  {
    name: 'replays entries that no certificate covers',
    file: 'node/ledger/proven.ts',
    text: 'return entry.index > provenTo || (certain',
    replacement: 'return (certain',
    tests: [away],
  },
  {
    name: 'lets go of entries that no checkpoint stands for',
    file: 'node/ledger/snapshots.ts',
    text: 'return all.slice(1).find(({ isCertified }) => isCertified)?.index ?? 0;',
    replacement: 'return all.slice(1).find(() => true)?.index ?? 0;',
    tests: [voters],
  },
  {
    name: 'books less memory for a blob than it takes',
    file: 'node/ledger/blob-server.ts',
    text: 'withMemory(Math.min(size, blobBytesMax), async',
    replacement: 'withMemory(blobBytesMax / 8, async',
    tests: ['test/ledger/blobs.test.ts'],
  },
  {
    name: 'forgets at a restart how large its snapshot is',
    file: 'node/ledger/replica.ts',
    text: 'bytes: init.storedBytes };',
    replacement: 'bytes: 0 };',
    tests: ['test/ledger/replica.test.ts'],
  },
];
