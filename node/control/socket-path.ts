// Owns where the local socket lies and how long its path may be. Apart from the server, because the command line needs it
// and starts faster without the rest.

import { join } from 'node:path';
import { ParleyError } from '../../protocols/errors.ts';

/** `sun_path` holds 108 bytes on Linux and 104 on macOS, with the final zero. */
const pathBytesMax = process.platform === 'darwin' ? 103 : 107;

/** The local socket of the peer whose state folder this is. */
export function controlSocketPath(stateFolder: string): string {
  return join(stateFolder, 'control.sock');
}

/** @throws ParleyError `socket-path-too-long`: the operating system would cut the path silently or refuse it. */
export function checkSocketPath(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes <= pathBytesMax) return;
  throw new ParleyError(
    'socket-path-too-long',
    `local socket '${path}' cannot be made: its path has ${bytes} bytes, the system allows ${pathBytesMax}`,
    { hint: 'Choose a state folder with a shorter path (--state DIR).' },
  );
}
