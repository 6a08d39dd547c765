// Owns the ids of the steps inside a command. They are of a kind of their own, which no command may have, and the ledger
// shows them before the command's own id is used: that one cannot be read out of them.

import { sha256Hex } from '../../protocols/codec.ts';
import { ParleyError } from '../../protocols/errors.ts';

const prefix = 'step:';

/** The id of a step of the command with this id: the same whenever the command is given again. */
export function stepId(step: 'draft' | 'commit', id: string): string {
  return `${prefix}${step}:${sha256Hex(id)}`;
}

/** @throws ParleyError `id-reserved` for a command under the id of a step. */
export function checkCommandId(id: string): void {
  if (!id.startsWith(prefix)) return;
  throw new ParleyError(
    'id-reserved',
    `no command can have the id '${id}': '${prefix}' begins those of steps inside one`,
    {
      hint: 'Give the command under another id.',
    },
  );
}
