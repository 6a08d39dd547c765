// Owns what stands in for git and Nix: commits, evaluations and closures that are pure functions of what they are made of.
// Nobody needs their content; the ledger, the coordinator and the devices need their names.

import type { ControlBuilder, ControlProject } from '../../node/control/index.ts';
import { hashOf } from '../../protocols/codec.ts';

/** Operators of the simulated fleet's policy, with what they may do. */
export const operators = {
  alice: { roles: ['deployer'] },
  bob: { roles: ['approver'] },
  carol: { roles: ['approver', 'deployer'] },
} as const;

/** Hosts with this ending are deployed without a person's yes. */
const automatic = (host: string): boolean => host.endsWith('-auto');

const system = 'x86_64-linux';

/** The store path of a host's system at a commit. */
function toplevelOf(revision: string, host: string): string {
  const digits = hashOf({ revision, host }).replaceAll(/[eu]/g, 'x').slice(0, 32);
  return `/nix/store/${digits}-system-${host}`;
}

/** The git commit of an intent: the same for whoever makes it. */
function revisionOf(intent: unknown): string {
  return hashOf(intent).slice(0, 40);
}

export function createSimulatedProject(): ControlProject {
  const never = async (): Promise<never> => {
    throw new Error('the simulated project has no such part');
  };
  return {
    executeCommit: async (intent) => revisionOf(intent),
    ensureRevision: async () => undefined,
    ensurePack: async () => undefined,
    ...{ patch: never, history: never, checkout: never, treeOf: never },
    workFolders: { read: never, write: never },
  };
}

/** A builder that needs no time. `hosts` are those that the flake has now. */
export function createSimulatedBuilder(hosts: () => readonly string[]): ControlBuilder {
  return {
    async evaluate({ revision, hosts: asked }) {
      const hostNames = [...hosts()];
      const policies = Object.fromEntries(
        hostNames.map((host) => [host, { approval: automatic(host) ? 'auto' : 'manual' }]),
      );
      const evaluated = (asked ?? hostNames).filter((host) => hostNames.includes(host));
      return {
        revision,
        parley: { hosts: policies, operators },
        hostNames,
        hosts: evaluated.map((name) => {
          const storePath = toplevelOf(revision, name);
          return { name, toplevel: { drvPath: `${storePath}.drv`, storePath, system }, error: null };
        }),
      };
    },
    async build({ drvPath }) {
      const root = drvPath.slice(0, -'.drv'.length);
      const narHash = `sha256:${'0'.repeat(52)}`;
      const signature = `simulated:${'A'.repeat(86)}==`;
      const paths = [{ storePath: root, narHash, narSize: 1, references: [], signature }];
      return { storePath: root, manifest: { version: 1, root, key: 'simulated', paths } };
    },
    update: async () => ({ lockFile: '', changes: [] }),
  };
}
