// Owns finding and killing the processes below one of ours. A build that Nix started is in a session of its own and, when
// Nix is killed, lives on as an orphan that nobody could find any more: so it is looked up while its parent still lives.

import { readdirSync, readFileSync } from 'node:fs';

/** One process; its start tells it from a later one with the same number. */
export interface ProcessIdentity {
  readonly pid: number;
  readonly startTicks: string;
}

/** All processes below pid now, on systems with a /proc; elsewhere none, and process groups have to do. */
export function descendantsOf(pid: number): ProcessIdentity[] {
  const children = new Map<number, ProcessIdentity[]>();
  for (const name of listFolder('/proc')) {
    const found = /^\d+$/.test(name) ? readProcess(Number(name)) : undefined;
    if (found === undefined) continue;
    const siblings = children.get(found.parent);
    if (siblings === undefined) children.set(found.parent, [found.identity]);
    else siblings.push(found.identity);
  }
  const found: ProcessIdentity[] = [];
  const queue = [pid];
  for (let parent = queue.pop(); parent !== undefined; parent = queue.pop()) {
    const below = children.get(parent) ?? [];
    children.delete(parent);
    found.push(...below);
    queue.push(...below.map((child) => child.pid));
  }
  return found;
}

/** True while the process runs; one that has ended and only waits to be collected does not. */
export function isRunning(identity: ProcessIdentity): boolean {
  const current = readProcess(identity.pid);
  return current?.identity.startTicks === identity.startTicks && current.state !== 'Z';
}

/** Kills the process if it is still the same one. */
export function killProcess(identity: ProcessIdentity): void {
  if (!isRunning(identity)) return;
  try {
    process.kill(identity.pid, 'SIGKILL');
  } catch {
    // It ended in between, or belongs to somebody else.
  }
}

function readProcess(
  pid: number,
): { readonly identity: ProcessIdentity; readonly parent: number; readonly state: string } | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name, in parentheses, may hold anything; fields are counted from behind it.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    const [state = '', parent = '0'] = fields;
    return { identity: { pid, startTicks: fields[19] ?? '' }, parent: Number(parent), state };
  } catch {
    return undefined;
  }
}

function listFolder(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
