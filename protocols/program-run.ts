// Owns the record of one program that a peer ran for a task: what a person would have typed, and how it ended.

import * as v from 'valibot';
import { textSchema } from './primitives.ts';

export const programRunSchema = v.object({
  /** The program with its arguments, quoted as for a shell, secrets removed; never its environment. */
  command: textSchema,
  /** Null when it could not be started or was ended early; a signal's death is 128 + its number. */
  exitCode: v.nullable(v.pipe(v.number(), v.integer())),
});
export type ProgramRun = v.InferOutput<typeof programRunSchema>;

/** How logs tell it. */
export function programRunText({ command, exitCode }: ProgramRun): string {
  return `${exitCode === null ? 'ended early' : `status ${exitCode}`}: ${command}`;
}
