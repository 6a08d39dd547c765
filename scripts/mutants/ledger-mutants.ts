// Owns the ways to break the ledger's rules that their tests must notice: who may, what was approved, what counts once.

import type { Mutant } from './mutant.ts';

const deploys = 'test/ledger/deploys-core.test.ts';
const members = 'test/ledger/members-core.test.ts';
const orders = 'test/ledger/orders-core.test.ts';
const project = 'test/ledger/project-core.test.ts';
const voters = 'test/ledger/ledger.test.ts';

export const ledgerMutants: readonly Mutant[] = [
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
    file: 'node/ledger/members-core.ts',
    text: "if (invite.usedBy !== null)\n    throw refusal('invite-used'",
    replacement: "if (false)\n    throw refusal('invite-used'",
    tests: [members],
  },
  {
    name: 'invites never expire',
    file: 'node/ledger/members-core.ts',
    text: 'if (invite.expiresAtMs <= state.timeMs) {',
    replacement: 'if (false) {',
    tests: [members],
  },
  {
    name: 'raft ids are used again',
    file: 'node/ledger/members-core.ts',
    text: 'nextRaftId: state.nextRaftId + (votes ? 1 : 0),',
    replacement: 'nextRaftId: state.nextRaftId,',
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
];
