// Tests the tests: breaks one promise at a time in a copy of the sources and looks whether the tests that hold it notice.
//   node scripts/mutants.ts [--json] [WORD…]     all mutants, or those whose name or file has one of the words
// Tells of each as it is done, and prints figures; exits with 1 when one survives.

import { execFile } from 'node:child_process';
import { cp, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { printFigures, readArguments, refuse, tell } from './lib/tool.ts';
import { benchMutants } from './mutants/bench-mutants.ts';
import { certificateMutants } from './mutants/certificate-mutants.ts';
import { consensusMutants } from './mutants/consensus-mutants.ts';
import { deviceMutants } from './mutants/device-mutants.ts';
import { fleetMutants } from './mutants/fleet-mutants.ts';
import { generationMutants } from './mutants/generation-mutants.ts';
import { ledgerMutants } from './mutants/ledger-mutants.ts';
import { membershipMutants } from './mutants/membership-mutants.ts';
import { infect, type Mutant, mutated } from './mutants/mutant.ts';
import { voterMutants } from './mutants/voter-mutants.ts';

/** One test file; a mutant may well make it hang. */
const timeoutMs = 120_000;
const folders = ['protocols', 'node', 'chatops', 'scripts', 'test'];

export const allMutants: readonly Mutant[] = [
  ...consensusMutants,
  ...voterMutants,
  ...certificateMutants,
  ...deviceMutants,
  ...ledgerMutants,
  ...membershipMutants,
  ...generationMutants,
  ...fleetMutants,
  ...benchMutants,
];

/** How a test file ends: no test failed; at least one did or it hung; or it did not get as far as a test. */
type Ending = 'passes' | 'fails' | 'breaks';

/** Runs one test file alone, in one process, so that ending that process ends it all. */
function runTests(tree: string, file: string): Promise<Ending> {
  return new Promise((done) => {
    const options = { cwd: tree, timeout: timeoutMs, killSignal: 'SIGKILL', maxBuffer: 2 ** 26 } as const;
    execFile(process.execPath, ['--test-reporter=tap', file], options, (error, output) => {
      if (!error) done('passes');
      else done(error.killed || /^\s*not ok /m.test(output) ? 'fails' : 'breaks');
    });
  });
}

/** A copy of the sources of this project, with its packages linked. */
async function copyTree(root: string): Promise<string> {
  const tree = await mkdtemp(join(tmpdir(), 'parley-mutants-'));
  for (const folder of folders) await cp(join(root, folder), join(tree, folder), { recursive: true });
  await cp(join(root, 'package.json'), join(tree, 'package.json'));
  for (const link of ['node_modules', '.runtime']) await symlink(join(root, link), join(tree, link));
  return tree;
}

/** The tests that should have failed and did not. */
async function survivedIn(tree: string, mutant: Mutant): Promise<string[]> {
  const cure = await infect(tree, mutant);
  try {
    const quiet: string[] = [];
    for (const file of mutant.tests) {
      const ending = await runTests(tree, file);
      if (ending !== 'fails') quiet.push(`${file} ${ending}`);
    }
    return quiet;
  } finally {
    await cure();
  }
}

async function main(): Promise<void> {
  const { positionals: words } = readArguments(import.meta.filename, { json: { type: 'boolean' } }, 'with words');
  const root = resolve(import.meta.dirname, '..');
  const chosen = allMutants.filter(
    ({ name, file }) => words.length === 0 || words.some((word) => `${name} ${file}`.includes(word)),
  );
  if (chosen.length === 0)
    refuse(`no mutant has ${words.join(' or ')} in its name or file`, 'Say none for all mutants.');
  for (const mutant of chosen) await mutated(root, mutant);
  const tree = await copyTree(root);
  const survivors: string[] = [];
  try {
    for (const file of new Set(chosen.flatMap(({ tests }) => tests))) {
      const ending = await runTests(tree, file);
      if (ending !== 'passes') throw new Error(`'${file}' ${ending} without any mutant: mend that first`);
    }
    for (const mutant of chosen) {
      const quiet = await survivedIn(tree, mutant);
      if (quiet.length > 0) survivors.push(mutant.name);
      tell(quiet.length === 0 ? `killed    ${mutant.name}` : `SURVIVES  ${mutant.name}: ${quiet}`);
    }
  } finally {
    await rm(tree, { recursive: true });
  }
  printFigures({ mutants: chosen.length, killed: chosen.length - survivors.length, survivors });
  if (survivors.length > 0) process.exitCode = 1;
}

if (import.meta.main) await main();
