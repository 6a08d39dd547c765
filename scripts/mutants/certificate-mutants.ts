// Owns the ways to break certificates, checkpoints and changes of voters that their tests must notice: what is signed too
// early or unseen, signatures that do not count right, and what goes on before it is certified.

import type { Mutant } from './mutant.ts';

const voters = 'test/consensus/certifier.test.ts';
const collecting = 'test/consensus/certifier-core.test.ts';
const verdicts = 'test/ledger/certify-core.test.ts';
const changes = 'test/control/voters-core.test.ts';
const ledger = 'test/ledger/ledger.test.ts';
const proofs = 'test/ledger/proof-gatherer.test.ts';

export const certificateMutants: readonly Mutant[] = [
  {
    name: 'signs for a certificate before the entry is applied',
    file: 'node/consensus/certifier.ts',
    text: "    if (index > appliedIndex()) return 'later';\n",
    replacement: '',
    tests: [voters],
  },
  {
    name: 'signs for a certificate whatever its ledger says of the entry',
    file: 'node/consensus/certifier.ts',
    text: "if (verdict !== 'sign') return verdict === 'wait' ? 'later' : undefined;",
    replacement: '',
    tests: [voters],
  },
  {
    name: 'signs for a certificate of another chain',
    file: 'node/consensus/certifier.ts',
    text: 'if (entry.chainHash !== place.chainHash || ',
    replacement: 'if (',
    tests: [voters],
  },
  {
    name: 'believes a certificate of another chain',
    file: 'node/consensus/certifier.ts',
    text: 'if (own !== chainHash) throw otherEntry(index, chainHash, own);',
    replacement: '',
    tests: [voters],
  },
  {
    name: 'signs for a certificate of an order that is not approved',
    file: 'node/ledger/certify-core.ts',
    text: 'if (order?.number === index) return sign;',
    replacement: 'if (order?.number !== 0) return sign;',
    tests: [verdicts],
  },
  {
    name: "counts a stranger's signature in a certificate",
    file: 'node/consensus/certifier-core.ts',
    text: 'if (key === undefined || !this.#verify(key, statement, signature)) return',
    replacement: 'if (key !== undefined && !this.#verify(key, statement, signature)) return',
    tests: [collecting],
  },
  {
    name: 'counts forged signatures in a certificate',
    file: 'protocols/certificate.ts',
    text: 'if (verify(key, statement, signature)) signers.add(raftId);',
    replacement: 'signers.add(raftId);',
    tests: [voters],
  },
  {
    name: 'counts a signer twice in a certificate',
    file: 'protocols/certificate.ts',
    text: 'signers.has(raftId)) continue;\n    if (verify(key, statement, signature)) signers.add(raftId);',
    replacement:
      'false) continue;\n    if (verify(key, statement, signature)) signers.add(set.voters[signers.size]?.raftId ?? raftId);',
    tests: [voters],
  },
  {
    name: 'certifies a checkpoint without comparing it with its own state',
    file: 'node/ledger/certify-core.ts',
    text: 'if (own === body.stateHash) return sign;',
    replacement: 'if (own !== body.index.toString()) return sign;',
    tests: [verdicts],
  },
  {
    name: 'leads on without a checkpoint that it could give to others',
    file: 'node/ledger/replica.ts',
    text: '(checkpointIndex > 0 && snapshots.headAt(checkpointIndex) === undefined) ||',
    replacement: '',
    tests: ['test/ledger/replica.test.ts'],
  },
  {
    name: 'certifies a checkpoint that later entries of its batch changed',
    file: 'node/ledger/replica.ts',
    text: '    beginBatch();\n    bytesSince = 0;',
    replacement: '    bytesSince = 0;',
    tests: [ledger],
  },
  {
    name: 'certifies a configuration that says other than what is in force',
    file: 'node/ledger/certify-core.ts',
    text: 'if (isSame && isStated(entry, configuration)) return sign;',
    replacement: 'if (isSame || isStated(entry, configuration)) return sign;',
    tests: [verdicts],
  },
  {
    name: 'certificates by keys that were allotted to nobody',
    file: 'node/ledger/voters-core.ts',
    text: 'if (context !== undefined && !namesVoters(state, context)) return state;',
    replacement: '',
    tests: [verdicts],
  },
  {
    name: 'leaves a joint configuration before its certificate',
    file: 'node/control/voters-core.ts',
    text: 'if (!facts.isCertified) return undefined;',
    replacement: '',
    tests: [changes],
  },
  {
    name: 'takes a replaced vote before its successor can cast it',
    file: 'node/control/voters-core.ts',
    text: 'if (successor !== undefined && casts(successor.raftId)) return true;',
    replacement: 'if (successor !== undefined) return true;',
    tests: [changes],
  },
  {
    name: 'deletes the key to certify with before its end is certified',
    file: 'node/wiring/vote-watch.ts',
    text: 'else if (isProven() && (',
    replacement: 'else if ((',
    tests: ['test/node/vote-watch.test.ts'],
  },
  {
    name: 'certifies no change that ends its own vote',
    file: 'node/wiring/voting-key.ts',
    text: 'isVoteOver(state, own) && ledger',
    replacement: 'isVoteOver(state, own) || ledger',
    tests: ['test/node/voting-key.test.ts'],
  },
  {
    name: 'goes on to certify when its vote is over',
    file: 'node/wiring/voting-key.ts',
    text: '(isOver() ? undefined : identity.sign(bytes))',
    replacement: '(own.raftId === 0 && isOver() ? undefined : identity.sign(bytes))',
    tests: ['test/node/voting-key.test.ts'],
  },
  {
    name: 'lets other certificates leave the memory than the disk',
    file: 'node/ledger/certificates.ts',
    text: 'believe: () => believe(certified, leaving)',
    replacement: 'believe: () => believe(certified, needless(index))',
    tests: ['test/ledger/certificates.test.ts'],
  },
  {
    name: 'judges what comes late on a stream by the voters of its beginning',
    file: 'node/ledger/entry-puller.ts',
    text: '        known = certificates.trust();\n',
    replacement: '',
    tests: ['test/ledger/catch-up.test.ts'],
  },
  {
    name: 'does without proofs that passed it by',
    file: 'node/ledger/certificates.ts',
    text: 'missing ??= gap;',
    replacement: 'missing ??= undefined;',
    tests: ['test/ledger/proof-gatherer.test.ts'],
  },
  {
    name: 'lets a voter go with the only proof of a change of voters',
    file: 'node/ledger/ledger.ts',
    text: 'lacking: found.lacking + unproven',
    replacement: 'lacking: found.lacking',
    tests: ['test/ledger/proof-gatherer.test.ts'],
  },
  {
    name: 'does without the proofs that a snapshot left out',
    file: 'node/ledger/ledger.ts',
    text: 'onRestoring: certificates.leap,',
    replacement: 'onRestoring: async () => undefined,',
    tests: [proofs],
  },
  {
    name: 'forgets at a restart which proofs are missing',
    file: 'node/ledger/certificates.ts',
    text: '      await readMissing();\n',
    replacement: '',
    tests: [proofs],
  },
  {
    name: 'leads members over changes of voters that it cannot prove',
    file: 'node/ledger/entry-server.ts',
    text: 'if (!certificates.hasProofs(from, proof.entry.index)) {',
    replacement: 'if (from === 0) {',
    tests: [proofs],
  },
];
