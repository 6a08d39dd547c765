// Owns the ways to break what follows a damaged disk and a recovery that their tests must notice: an older generation's word that
// still counts, a newer one that nobody accepted, a ledger that is whole elsewhere and given up.

import type { Mutant } from './mutant.ts';

const trust = 'test/ledger/trust-core.test.ts';
const ledger = 'test/ledger/generations.test.ts';
const damagedLedger = 'test/node/damaged-ledger.test.ts';
const vote = 'test/node/vote.test.ts';
const voting = 'test/node/voting.test.ts';
const exchange = 'test/node/generation-exchange.test.ts';
const recovery = 'test/node/recovery.test.ts';

export const generationMutants: readonly Mutant[] = [
  {
    name: 'lets one peer crowd out what others tell of generations',
    file: 'node/wiring/generation-exchange.ts',
    text: 'told.size >= doubtsPerPeerMax',
    replacement: '[...doubted.values()].flatMap((hashes) => [...hashes]).length >= doubtsPerPeerMax',
    tests: [exchange],
  },
  {
    name: 'lets one peer fill the log with generations',
    file: 'node/wiring/generation-exchange.ts',
    text: 'told.size >= doubtsPerPeerMax || ',
    replacement: '',
    tests: [exchange],
  },
  {
    name: 'asks nobody again for what root has named',
    file: 'node/wiring/generation-exchange.ts',
    text: 'for (const peer of answered.keys()) answered.set(peer, false);',
    replacement: 'for (const peer of answered.keys()) answered.set(peer, true);',
    tests: [exchange],
  },
  {
    name: 'begins a generation for who only asked to be shown',
    file: 'node/arguments.ts',
    text: 'if (show && (yes || ways.length > 0)) {',
    replacement: 'if (show && ways.length > 0) {',
    tests: [recovery],
  },
  {
    name: 'shows the generation of the ledger where a newer one is accepted',
    file: 'node/recovery.ts',
    text: '...generations.map(({ number }) => number)',
    replacement: '...generations.map(() => 0)',
    tests: [recovery],
  },
  {
    name: 'recovers from nothing where the ledger is damaged and the log starts later',
    file: 'node/recovery.ts',
    text: '    if (ledger.appliedIndex() < log.baseIndex) throw behindLog(ledger.appliedIndex(), log.baseIndex);\n',
    replacement: '',
    tests: [damagedLedger],
  },
  {
    name: 'gives a whole log up with a damaged ledger',
    file: 'node/wiring/stopped-ledger.ts',
    text: '  if (!hasLog) throw withoutLog(found);',
    replacement: '  if (init.stateFolder) throw withoutLog(found);',
    tests: [damagedLedger],
  },
  {
    name: 'begins a generation on a peer that has neither ledger nor log',
    file: 'node/wiring/stopped-ledger.ts',
    text: '  if (!hasLog) throw withoutLog(found);\n',
    replacement: '',
    tests: [damagedLedger],
  },
  {
    name: 'writes over a damaged ledger',
    file: 'node/wiring/vote-folder.ts',
    text: '          await setAside([ledgerFolderOf(stateFolder)]);',
    replacement: '          await files.remove(ledgerFolderOf(stateFolder));',
    tests: [vote, damagedLedger],
  },
  {
    name: 'gives up at a damaged ledger without a word to who could set it aside',
    file: 'node/wiring/ledger-start.ts',
    text: "error.code === 'store-damaged') onDamage(error);",
    replacement: "error.code === 'store-damaged') error.stack = '';",
    tests: [vote],
  },
  {
    name: 'never votes again where its ledger is lost and its log starts later',
    file: 'node/consensus/log-damage.ts',
    text: '[damagedLogCode, behindLogCode].includes(error.code)',
    replacement: 'error.code === damagedLogCode',
    tests: [voting],
  },
  {
    name: 'takes entries of an older generation after the base of its own',
    file: 'node/ledger/trust-core.ts',
    text: 'if (isOverruled(trust.generations, certificate)) {',
    replacement: 'if (trust.fleet === certificate.chainHash) {',
    tests: [trust, ledger],
  },
  {
    name: 'puts voters of an older generation in the place of those of its own',
    file: 'node/ledger/trust-core.ts',
    text: 'if (set.index <= first.index || isOverruled(trust.generations, set)) return trust;',
    replacement: 'if (set.index <= first.index) return trust;',
    tests: [trust],
  },
  {
    name: 'serves proofs that a newer generation went on without',
    file: 'node/ledger/certificates.ts',
    text: "if (isOverruled(generations, certificate)) overruled.push({ type: 'del', key });\n        else take(record);",
    replacement: 'take(record);',
    tests: [ledger],
  },
  {
    name: 'begins a generation that nobody has vouched for',
    file: 'node/ledger/voters-core.ts',
    text: 'if (!meta.generations.some((accepted) => generationHash(accepted) === generationHash(record))) {',
    replacement: 'if (meta.generations.length > 1) {',
    tests: [ledger],
  },
  {
    name: 'certifies the first entry of a generation by itself',
    file: 'node/ledger/certify-core.ts',
    text: "return refuse('its record alone proves that a generation begins', known.state.generationIndex < entry.index);",
    replacement: 'return sign;',
    tests: ['test/ledger/certify-core.test.ts'],
  },
  {
    name: 'obeys its ledger before that has come to the generation',
    file: 'node/ledger/certification.ts',
    text: '(state().generation < generation ? 0 : certifiedIndex())',
    replacement: '(generation < 0 ? 0 : certifiedIndex())',
    tests: [ledger],
  },
  {
    name: 'leaves peers of another branch behind a generation alone',
    file: 'node/ledger/entry-server.ts',
    text: '    if (index <= generationBase) return false;\n',
    replacement: '',
    tests: [ledger],
  },
  {
    name: 'serves what lies before a generation to who cannot judge it any more',
    file: 'node/ledger/entry-server.ts',
    text: 'const chained = isBehind ? false : await',
    replacement: 'const chained = isBehind && top() < 0 ? false : await',
    tests: [ledger],
  },
  {
    name: 'keeps proofs of another branch than that of its generation',
    file: 'node/ledger/proven.ts',
    text: 'await certificates.forgetBefore(state.generation);',
    replacement: 'await certificates.forgetBefore(0);',
    tests: [ledger],
  },
];
