// Owns the comparison of two closures: which packages a switch adds, removes, changes or merely rebuilds, with their sizes.

import type { ClosureChange } from '../../protocols/plan.ts';

/** One path of a closure, as manifests list them. */
export interface ClosurePath {
  readonly storePath: string;
  readonly narSize: number;
}

export interface PackageChange extends ClosureChange {
  readonly kind: 'added' | 'removed' | 'changed' | 'rebuilt';
  /** NAR bytes of all the package's paths on either side. */
  readonly bytesBefore: number;
  readonly bytesAfter: number;
}

export interface ClosureDifference {
  /** New versions, additions and removals first, then rebuilds; the largest first in each. */
  readonly changes: readonly PackageChange[];
  /** Paths, and their NAR bytes, that only one of the closures has. */
  readonly pathsAdded: number;
  readonly pathsRemoved: number;
  readonly bytesAdded: number;
  readonly bytesRemoved: number;
}

interface Package {
  readonly versions: Set<string>;
  readonly paths: Set<string>;
  bytes: number;
}

/** Versions listed of one package: Python or Go libraries may be there in dozens. */
const versionsMax = 16;
const versionCharactersMax = 128;

/** What changes from the closure `before` to the closure `after`; an empty `before` is a device that never had one. */
export function diffClosures(before: readonly ClosurePath[], after: readonly ClosurePath[]): ClosureDifference {
  const old = packagesOf(before);
  const recent = packagesOf(after);
  const changes: PackageChange[] = [];
  for (const name of new Set([...old.keys(), ...recent.keys()])) {
    const change = compare(name, old.get(name), recent.get(name));
    if (change !== undefined) changes.push(change);
  }
  const added = onlyIn(after, before);
  const removed = onlyIn(before, after);
  return {
    changes: changes.sort(byWeight),
    pathsAdded: added.length,
    pathsRemoved: removed.length,
    bytesAdded: bytesOf(added),
    bytesRemoved: bytesOf(removed),
  };
}

/** Nix's own rule: the version starts after the first dash that no letter follows. */
export function splitName(storePath: string): { readonly name: string; readonly version: string } {
  const base = storePath.slice(storePath.lastIndexOf('/') + 1).slice(33);
  const dash = base.search(/-[^a-zA-Z]/);
  if (dash <= 0) return { name: base, version: '' };
  return { name: base.slice(0, dash), version: base.slice(dash + 1) };
}

function packagesOf(paths: readonly ClosurePath[]): Map<string, Package> {
  const packages = new Map<string, Package>();
  for (const { storePath, narSize } of paths) {
    const { name, version } = splitName(storePath);
    const entry = packages.get(name) ?? { versions: new Set(), paths: new Set(), bytes: 0 };
    entry.versions.add(version);
    entry.paths.add(storePath);
    entry.bytes += narSize;
    packages.set(name, entry);
  }
  return packages;
}

function compare(name: string, old: Package | undefined, recent: Package | undefined): PackageChange | undefined {
  const before = versionsOf(old);
  const after = versionsOf(recent);
  const sizes = { bytesBefore: old?.bytes ?? 0, bytesAfter: recent?.bytes ?? 0 };
  if (old === undefined) return { name, kind: 'added', before, after, ...sizes };
  if (recent === undefined) return { name, kind: 'removed', before, after, ...sizes };
  if (old.paths.size === recent.paths.size && old.paths.isSubsetOf(recent.paths)) return undefined;
  const sameVersions = old.versions.size === recent.versions.size && old.versions.isSubsetOf(recent.versions);
  return { name, kind: sameVersions ? 'rebuilt' : 'changed', before, after, ...sizes };
}

function versionsOf(entry: Package | undefined): string[] {
  const versions = [...(entry?.versions ?? [])].map((version) => version.slice(0, versionCharactersMax));
  return versions.sort().slice(0, versionsMax);
}

function byWeight(left: PackageChange, right: PackageChange): number {
  const rank = Number(left.kind === 'rebuilt') - Number(right.kind === 'rebuilt');
  const weight = (change: PackageChange) => Math.max(change.bytesBefore, change.bytesAfter);
  return rank || weight(right) - weight(left) || (left.name < right.name ? -1 : 1);
}

function onlyIn(paths: readonly ClosurePath[], others: readonly ClosurePath[]): ClosurePath[] {
  const known = new Set(others.map((entry) => entry.storePath));
  return paths.filter((entry) => !known.has(entry.storePath));
}

function bytesOf(paths: readonly ClosurePath[]): number {
  return paths.reduce((sum, entry) => sum + entry.narSize, 0);
}
