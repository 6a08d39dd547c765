// Runs data files of other projects against ours: `node scripts/conformance.ts etcd-raft DIR [--json]`.
// Prints figures, and without --json the differences; exits with 1 when something does not pass.

import { join } from 'node:path';
import { runFolder, type Tally } from './conformance/datadriven.ts';
import { createChanges, createQuorums } from './conformance/etcd-cases.ts';
import { createInteraction } from './conformance/interaction.ts';

/** All of etcd/raft's data files below `folder`, by kind. */
export async function runEtcdRaft(folder: string): Promise<Record<'interaction' | 'confchange' | 'quorum', Tally>> {
  return {
    interaction: await runFolder(join(folder, 'testdata'), createInteraction),
    confchange: await runFolder(join(folder, 'confchange', 'testdata'), createChanges),
    quorum: await runFolder(join(folder, 'quorum', 'testdata'), createQuorums),
  };
}

async function main(): Promise<void> {
  const [suite, folder] = process.argv.slice(2).filter((argument) => argument !== '--json');
  if (suite !== 'etcd-raft' || folder === undefined) {
    console.error('usage: node scripts/conformance.ts etcd-raft DIR [--json]');
    process.exitCode = 2;
    return;
  }
  const tallies = Object.values(await runEtcdRaft(folder));
  const sum = (field: Exclude<keyof Tally, 'failures'>): number =>
    tallies.reduce((total, tally) => total + tally[field], 0);
  const failures = tallies.flatMap((tally) => tally.failures);
  if (!process.argv.includes('--json')) {
    for (const { file, line, expected, actual } of failures) {
      console.log(`${file}:${line}\n--- expected\n${expected}\n--- actual\n${actual}\n`);
    }
  }
  const [files, passedFiles] = [sum('files'), sum('passedFiles')];
  const [directives, passedDirectives] = [sum('directives'), sum('passedDirectives')];
  console.log(JSON.stringify({ files, passedFiles, directives, passedDirectives }));
  if (passedDirectives !== directives) process.exitCode = 1;
}

if (import.meta.main) await main();
