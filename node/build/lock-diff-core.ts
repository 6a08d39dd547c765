// Owns the comparison of two flake.lock files: what an update changed, in words for people.

import type { InputChange } from '../../protocols/build-job.ts';

/** Inputs of inputs, deeper than any real flake goes. */
const depthMax = 16;
const changesMax = 10_000;
const shortCharacters = 12;

interface LockNode {
  readonly inputs?: Readonly<Record<string, unknown>>;
  readonly locked?: Readonly<Record<string, unknown>>;
}

/** Changes between two texts of flake.lock, by name; an absent or unreadable text counts as one without inputs. */
export function diffLocks(before: string | undefined, after: string): InputChange[] {
  const old = lockedInputs(before);
  const recent = lockedInputs(after);
  const names = [...new Set([...old.keys(), ...recent.keys()])].sort();
  return names
    .map((name) => ({ name, before: old.get(name) ?? null, after: recent.get(name) ?? null }))
    .filter((change) => change.before !== change.after)
    .slice(0, changesMax);
}

/** Names of the flake's own inputs. */
export function inputNames(text: string | undefined): string[] {
  const { nodes, root } = readLock(text);
  return Object.keys(nodes[root]?.inputs ?? {}).sort();
}

function lockedInputs(text: string | undefined): Map<string, string> {
  const { nodes, root } = readLock(text);
  const described = new Map<string, string>();
  const visit = (node: LockNode | undefined, prefix: string, depth: number): void => {
    for (const [name, target] of Object.entries(node?.inputs ?? {})) {
      // A list follows another input: what that one is, is told at its own place.
      if (typeof target !== 'string' || depth > depthMax || described.size >= changesMax) continue;
      const child = nodes[target];
      described.set(`${prefix}${name}`, describe(child?.locked ?? {}));
      visit(child, `${prefix}${name}/`, depth + 1);
    }
  };
  visit(nodes[root], '', 0);
  return described;
}

/** `3f2a90c1d2e4 (2026-05-04)`: revision or hash, with the date where the lock has one. */
function describe(locked: Readonly<Record<string, unknown>>): string {
  const { rev, narHash, lastModified } = locked;
  const id =
    typeof rev === 'string' ? rev.slice(0, shortCharacters) : String(narHash ?? locked.path ?? '?').slice(0, 64);
  if (typeof lastModified !== 'number' || lastModified < 0 || lastModified > 8e12) return id;
  return `${id} (${new Date(lastModified * 1000).toISOString().slice(0, 10)})`;
}

function readLock(text: string | undefined): {
  readonly nodes: Readonly<Record<string, LockNode>>;
  readonly root: string;
} {
  try {
    const { nodes, root } = JSON.parse(text ?? '') as { nodes?: unknown; root?: unknown };
    if (typeof nodes !== 'object' || nodes === null || typeof root !== 'string') return { nodes: {}, root: '' };
    return { nodes: nodes as Record<string, LockNode>, root };
  } catch {
    return { nodes: {}, root: '' };
  }
}
