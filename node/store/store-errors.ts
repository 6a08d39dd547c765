// Owns how failures of LevelDB and of the file system become errors that the peer can act on.

import { ParleyError } from '../../protocols/errors.ts';

const spaceHint = 'Free some space on this file system; nothing that was acknowledged is lost.';

/**
 * Turns a failure at `path` into a ParleyError: `store-locked`, `store-damaged`, `disk-full` (retryable) or `store-failed`.
 * Errors that are ParleyErrors already pass unchanged.
 */
export function toStoreError(action: string, path: string, cause: unknown): ParleyError {
  if (cause instanceof ParleyError) return cause;
  const text = describe(cause);
  if (text.includes('LEVEL_LOCKED')) {
    return new ParleyError('store-locked', `cannot ${action} '${path}': another process or handle has it open`, {
      hint: 'Stop the other Parley that uses this state folder, or give this one a folder of its own.',
      cause,
    });
  }
  if (/ENOSPC|EDQUOT|No space left on device|Disk quota exceeded/.test(text)) {
    return new ParleyError('disk-full', `cannot ${action} '${path}': no space left on the device`, {
      hint: spaceHint,
      retryable: true,
      cause,
    });
  }
  if (text.includes('LEVEL_CORRUPTION') || text.includes('does not exist (create_if_missing is false)')) {
    return new ParleyError('store-damaged', `cannot ${action} '${path}': ${text}`, {
      hint: 'Check the disk, and keep a copy of this folder before anything else: a fleet can only be recovered from what is left of its voters.',
      cause,
    });
  }
  return new ParleyError('store-failed', `cannot ${action} '${path}': ${text}`, {
    hint: 'Check that the folder exists on a healthy file system and that this user may write to it.',
    cause,
  });
}

function describe(cause: unknown): string {
  const parts: string[] = [];
  let current = cause;
  for (let depth = 0; current instanceof Error && depth < 4; depth++) {
    const code = 'code' in current && typeof current.code === 'string' ? `${current.code} ` : '';
    parts.push(`${code}${current.message}`);
    current = current.cause;
  }
  return parts.length > 0 ? parts.join(': ') : String(cause);
}
