// Owns what a mutant is: one promise broken on purpose by changing a few words of one file, and the tests that must notice.

import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ParleyError } from '../../protocols/errors.ts';

export interface Mutant {
  /** What it does wrong, in words that a report can show. */
  readonly name: string;
  /** From the project's root, like the tests. */
  readonly file: string;
  /** Stands in the file exactly once. */
  readonly text: string;
  readonly replacement: string;
  /** Each of these test files must fail. */
  readonly tests: readonly string[];
}

/**
 * The file's text with the mutant in it.
 * @throws ParleyError `mutant-stale` when the text to change is not there exactly once.
 */
export async function mutated(root: string, { name, file, text, replacement }: Mutant): Promise<string> {
  const source = await readFile(join(root, file), 'utf8').catch(() => '');
  const found = source.split(text).length - 1;
  if (found !== 1) {
    throw new ParleyError('mutant-stale', `mutant '${name}' does not fit '${file}': its text is there ${found} times`, {
      hint: 'Change the mutant with the code: it must break the same promise as before.',
    });
  }
  return source.replace(text, () => replacement);
}

/** Puts the mutant into the tree at `root`; returns the function that takes it out again. */
export async function infect(root: string, mutant: Mutant): Promise<() => Promise<void>> {
  const path = join(root, mutant.file);
  const [sound, ill] = [await readFile(path, 'utf8'), await mutated(root, mutant)];
  await writeFile(path, ill);
  return () => writeFile(path, sound);
}
