// Owns the builders of the fleet in one process: flakes that are plain data, evaluations and builds that are known at once,
// and builds that break or hang where a test says so.

import { once } from 'node:events';
import type { ControlBuilder } from '../../node/control/control-types.ts';
import type { BuildResult, Evaluation } from '../../protocols/build-job.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { drvPath, storePath } from './helpers.ts';

/** What the flake of a commit says; `fails` are hosts that cannot be evaluated. */
export interface FlakeSpec {
  readonly hosts: readonly string[];
  readonly parley?: unknown;
  readonly fails?: readonly string[];
  /** Hosts that share one closure. */
  readonly shared?: readonly string[];
  readonly version?: string;
}

/** Runs one effect that a peer asks for, and the place where it may die. */
type Effect = <T>(what: string, effect: () => T | Promise<T>) => Promise<T>;

export class FakeBuilders {
  readonly flakes = new Map<string, FlakeSpec>();
  readonly broken = new Set<string>();
  /** Builds that go on until they are aborted. */
  readonly hanging = new Set<string>();
  readonly aborted: string[] = [];

  /** The builder `name` as one asking peer sees it. */
  at(name: string, effect: Effect, isOnline: () => boolean): ControlBuilder {
    const check = () => {
      if (!isOnline()) throw new ParleyError('peer-unreachable', `'${name}' is gone`, { retryable: true });
    };
    return {
      evaluate: (request) =>
        effect(`evaluate ${request.hosts?.join(',')} on ${name}`, () => {
          check();
          return this.#evaluate(request.revision, request.hosts ?? []);
        }),
      build: (request, options) =>
        effect(`build ${request.drvPath} on ${name}`, async () => {
          check();
          options.onProgress?.({ done: 1, expected: 2, running: 1, failed: 0 });
          if (this.hanging.has(request.drvPath)) {
            if (!options.signal.aborted) await once(options.signal, 'abort');
            this.aborted.push(request.drvPath);
            throw new ParleyError('cancelled', 'the build was cancelled');
          }
          if (this.broken.has(request.drvPath))
            throw new ParleyError('build-failed', `builder of ${request.drvPath} failed`);
          return buildResultOf(request.drvPath);
        }),
      update: (request) =>
        effect(`update ${request.tree} on ${name}`, () => {
          check();
          return { lockFile: '{}', changes: [{ name: 'nixpkgs', before: '24.05', after: '24.11' }] };
        }),
    };
  }

  #evaluate(revision: string, hosts: readonly string[]): Evaluation {
    const flake = this.flakes.get(revision);
    if (flake === undefined) throw new ParleyError('evaluation-failed', `commit '${revision}' has no flake`);
    return {
      revision,
      parley: flake.parley ?? null,
      hostNames: [...flake.hosts],
      hosts: hosts.map((name) => evaluateHost(flake, name)),
    };
  }
}

function evaluateHost(flake: FlakeSpec, name: string): Evaluation['hosts'][number] {
  if (!flake.hosts.includes(name) || flake.fails?.includes(name)) {
    const error = { code: 'evaluation-failed', message: `${name} is broken`, retryable: false } as const;
    return { name, toplevel: null, error };
  }
  const closure = `system-${flake.shared?.includes(name) ? 'shared' : name}-${flake.version ?? '1.0'}`;
  const toplevel = { drvPath: drvPath(closure), storePath: storePath(closure), system: 'x86_64-linux' };
  return { name, toplevel, error: null };
}

function buildResultOf(path: string): BuildResult {
  const root = path.replace(/\.drv$/, '');
  const entry = {
    storePath: root,
    narHash: `sha256:${'1'.repeat(52)}`,
    narSize: 100,
    references: [],
    signature: `key:${'A'.repeat(86)}==`,
  };
  return { storePath: root, manifest: { version: 1, root, key: 'key', paths: [entry] } };
}
