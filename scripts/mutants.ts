// Tests the tests: breaks one promise at a time in a copy of the sources and looks whether the tests that hold it notice.
//   node scripts/mutants.ts [--json] [WORD…]     all mutants, or those whose name or file has one of the words
// Tells of each as it is done, and prints figures; exits with 1 when one survives.

import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { printFigures, readArguments, refuse, tell } from './lib/tool.ts';
import { benchMutants } from './mutants/bench-mutants.ts';
import { certificateMutants } from './mutants/certificate-mutants.ts';
import { consensusMutants } from './mutants/consensus-mutants.ts';
import { deviceMutants } from './mutants/device-mutants.ts';
import { fleetMutants } from './mutants/fleet-mutants.ts';
import { generationMutants } from './mutants/generation-mutants.ts';
import { ledgerMutants } from './mutants/ledger-mutants.ts';
import { membershipMutants } from './mutants/membership-mutants.ts';
import { type Mutant, mutated } from './mutants/mutant.ts';
import { runningMutants } from './mutants/running-mutants.ts';
import { Tree } from './mutants/tree.ts';
import { voterMutants } from './mutants/voter-mutants.ts';

export const allMutants: readonly Mutant[] = [
  ...consensusMutants,
  ...runningMutants,
  ...voterMutants,
  ...certificateMutants,
  ...deviceMutants,
  ...ledgerMutants,
  ...membershipMutants,
  ...generationMutants,
  ...fleetMutants,
  ...benchMutants,
];

/** Does a piece of work for each of `items`, in all trees at once. After one that fails none is begun, and none is left under way. */
async function inTrees<T>(trees: readonly Tree[], items: readonly T[], work: (tree: Tree, item: T) => Promise<void>) {
  const left = [...items];
  const inTree = async (tree: Tree): Promise<void> => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await work(tree, item);
  };
  const stop = (error: unknown): never => {
    left.length = 0;
    throw error;
  };
  const ends = await Promise.allSettled(trees.map((tree) => inTree(tree).catch(stop)));
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
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
  const trees: Tree[] = [];
  const survivors: string[] = [];
  try {
    for (let core = 0; core < availableParallelism(); core += 1) trees.push(await Tree.copy(root));
    const files = [...new Set(chosen.flatMap(({ tests }) => tests))];
    tell(`${files.length} test files without any mutant`);
    await inTrees(trees, files, async (tree, file) => {
      const ending = await tree.run(file);
      if (ending !== 'passes') throw new Error(`'${file}' ${ending} without any mutant: mend that first`);
    });
    await inTrees(trees, chosen, async (tree, mutant) => {
      const quiet = await tree.survivedBy(mutant);
      if (quiet.length > 0) survivors.push(mutant.name);
      tell(quiet.length === 0 ? `killed    ${mutant.name}` : `SURVIVES  ${mutant.name}: ${quiet}`);
    });
  } finally {
    for (const tree of trees) await tree.remove();
  }
  printFigures({ mutants: chosen.length, killed: chosen.length - survivors.length, survivors });
  if (survivors.length > 0) process.exitCode = 1;
}

if (import.meta.main) await main();
