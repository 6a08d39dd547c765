// Owns which hosts people can name: those of the flake, of the policy and of the members; with their tags, and whether a
// deploy can reach them. Pure.

import { check } from '../../protocols/codec.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import { type HostPolicy, type ParleyOutput, parleyOutputSchema } from '../../protocols/policy.ts';
import type { SelectableHost } from './selector-core.ts';
import { selectHosts } from './selector-core.ts';

export interface KnownHost extends SelectableHost {
  /** Why a deploy cannot include it; null where it can. */
  readonly unreachable: string | null;
}

/** A commit's hosts and its unchecked output `parley`, where they are known. */
export interface CommitHosts {
  readonly hostNames: readonly string[];
  readonly parley?: unknown;
}

/**
 * All hosts, sorted. Tags come from the commit that is asked about, where its output can be read, else from the policy in
 * force: who names `@new-tag` means what was just committed.
 */
export function hostsOf(state: LedgerState, commit: CommitHosts | undefined): KnownHost[] {
  const members = new Map(Object.values(state.members).map((member) => [member.name, member]));
  const policies: Record<string, HostPolicy> = { ...state.policy?.hosts, ...readOutput(commit?.parley)?.hosts };
  const names = new Set([...(commit?.hostNames ?? []), ...Object.keys(policies), ...members.keys()]);
  const inFlake = new Set(commit?.hostNames ?? []);
  return [...names].sort().flatMap((name) => {
    const member = members.get(name);
    const policy = Object.hasOwn(policies, name) ? policies[name] : undefined;
    const isMonitored = member?.roles.includes('monitor') || policy?.monitor === true;
    const unreachable = isMonitored
      ? 'only monitored'
      : member === undefined
        ? 'no peer runs on it yet'
        : commit !== undefined && !inFlake.has(name)
          ? 'the flake has no such host'
          : null;
    return [{ name, tags: policy?.tags ?? [], unreachable }];
  });
}

export interface Selection {
  readonly hosts: string[];
  readonly leftOut: { readonly host: string; readonly reason: string }[];
}

/** Resolves a selector and tells apart what can be deployed to. @throws ParleyError of selectHosts. */
export function selectKnown(selector: string, hosts: readonly KnownHost[]): Selection {
  const selected = new Set(selectHosts(selector, hosts));
  const named = hosts.filter((host) => selected.has(host.name));
  return {
    hosts: named.filter((host) => host.unreachable === null).map((host) => host.name),
    leftOut: named.flatMap(({ name, unreachable }) =>
      unreachable === null ? [] : [{ host: name, reason: unreachable }],
    ),
  };
}

/** The hosts that a selector names and that no deploy reaches; none where the selector no longer holds. */
export function withoutPeer(selector: string, hosts: readonly KnownHost[]): Selection['leftOut'] {
  try {
    return selectKnown(selector, hosts).leftOut;
  } catch {
    return [];
  }
}

/** An output that does not fit is told by the plan that would bring it into force. */
function readOutput(output: unknown): ParleyOutput | undefined {
  if (output === null || output === undefined) return undefined;
  try {
    return check(parleyOutputSchema, output);
  } catch {
    return undefined;
  }
}
