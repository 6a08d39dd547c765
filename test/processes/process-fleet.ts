// Owns fleets of real peers for tests of faults: each peer a process of its own with its own Nix store, on loopback or each
// on a host of a network that can be cut. The project has one small host for each peer and needs no approval.

import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { promisify } from 'node:util';
import { createLogger, createProcessRunner } from '../../node/host/index.ts';
import type { Command } from '../../protocols/control.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { PeerView, StatusView } from '../../protocols/views.ts';
import { ask, type DemoFleet, foundFleet } from '../../scripts/lib/demo-fleet.ts';
import { importProject } from '../../scripts/lib/demo-project.ts';
import type { PeerProcess } from '../../scripts/lib/peer-process.ts';
import { createNetwork, type TestNetwork } from '../helpers/network-namespaces.ts';

const run = promisify(execFile);
const runner = createProcessRunner({ logger: createLogger({ level: 'silent' }) });
const pollMs = 100;
const patienceMs = 90_000;

export interface ProcessFleet {
  readonly fleet: DemoFleet;
  readonly names: readonly string[];
  readonly voters: readonly string[];
  readonly network: TestNetwork | undefined;
  peer(name: string): PeerProcess;
  /** Changes the project in the work folder, on top of what this voter has, so that every host gets a closure that says this. */
  write(word: string, voter?: string): Promise<void>;
  /** Asks a command of these peers' sockets, the first that answers; resolves with the last view. */
  command(command: Command, options?: CommandOptions): Promise<unknown>;
  /** What a peer believes; undefined while it does not answer. */
  statusOf(name: string): Promise<StatusView | undefined>;
  /** Waits until a view that one of the peers confirms with a controller holds. */
  until(what: string, holds: (view: StatusView) => boolean, peers?: readonly string[]): Promise<StatusView>;
  /** The newest commit in a peer's own repository. */
  headOf(name: string): Promise<string>;
  /** Messages of the commits in a peer's repository, newest first. */
  messagesOf(name: string): Promise<string[]>;
}

export interface CommandOptions {
  /** Whose sockets; default all, those of running voters first. */
  readonly peers?: readonly string[];
  readonly follow?: boolean;
  /** How long peers that do not answer are asked again; default 30 s. */
  readonly patienceMs?: number;
  readonly id?: string;
}

interface Started extends Pick<ProcessFleet, 'fleet' | 'network' | 'names' | 'voters'> {
  readonly folder: string;
}

/** Brings up `voters` voters and `members` other members with the project committed. Everything ends with the test. */
export async function startProcessFleet(
  t: TestContext,
  init: { readonly voters: number; readonly members: number; readonly isolated?: boolean },
): Promise<ProcessFleet> {
  const voters = Array.from({ length: init.voters }, (_, position) => `v${position + 1}`);
  const members = Array.from({ length: init.members }, (_, position) => `m${position + 1}`);
  const names = [...voters, ...members];
  const folder = await mkdtemp(path.join(tmpdir(), 'parley-fleet-'));
  let fleet: DemoFleet | undefined;
  let network: TestNetwork | undefined;
  t.after(async () => {
    await fleet?.stop();
    await network?.end();
    await run('chmod', ['-R', 'u+w', folder]);
    await rm(folder, { recursive: true, force: true });
  });
  network = init.isolated ? await createNetwork(names) : undefined;
  const plans = names.map((name) => {
    const roles = voters.includes(name) ? (['member', 'voter', 'builder'] as const) : (['member'] as const);
    return { name, site: 'home', roles: [...roles] };
  });
  fleet = await foundFleet(
    { folder, runner, signal: t.signal, onProgress: () => undefined, ...(network && { place: network.host }) },
    plans,
  );
  return await withProject(t, { fleet, network, names, voters, folder });
}

/** The fleet with the project in its first commit. */
async function withProject(t: TestContext, started: Started): Promise<ProcessFleet> {
  const { fleet, network, names, voters, folder } = started;
  const workFolder = path.join(folder, 'project');
  const write = (word: string): Promise<void> => writeFile(path.join(workFolder, 'flake.nix'), flakeFor(names, word));
  await run('git', ['init', '--quiet', '--initial-branch=main', workFolder]);
  await write('first');
  await importProject(fleet, workFolder, t.signal);

  function peer(name: string): PeerProcess {
    const found = fleet.peers.find((each) => each.name === name);
    if (found === undefined) throw new Error(`no peer '${name}'`);
    return found;
  }

  const socketsOf = (peers: readonly string[]): string[] =>
    peers.map((name) => path.join(peer(name).stateFolder, 'control.sock'));

  async function statusOf(name: string): Promise<StatusView | undefined> {
    const signal = AbortSignal.any([t.signal, AbortSignal.timeout(10_000)]);
    try {
      return (await ask(socketsOf([name]), { name: 'status' }, signal, { patienceMs: 0 })) as StatusView;
    } catch (error) {
      if (t.signal.aborted) throw error;
      return undefined;
    }
  }

  const git = async (name: string, ...words: string[]): Promise<string> => {
    const repository = path.join(peer(name).stateFolder, 'project.git');
    const { stdout } = await run('git', ['-c', `safe.directory=${repository}`, '-C', repository, ...words]);
    return stdout.trim();
  };

  return {
    ...{ fleet, names, voters, network, peer, statusOf },
    async write(word, voter = voters[0] ?? '') {
      const repository = path.join(peer(voter).stateFolder, 'project.git');
      const words = ['-c', 'safe.directory=*', '-C', workFolder];
      await run('git', [...words, 'fetch', '--quiet', repository, 'main']);
      await run('git', [...words, 'reset', '--quiet', '--hard', 'FETCH_HEAD']);
      await write(word);
    },
    command: (command, { peers, ...options } = {}) =>
      ask(peers === undefined ? fleet.sockets() : socketsOf(peers), command, t.signal, { workFolder, ...options }),
    async until(what, holds, peers = names) {
      const deadlineMs = performance.now() + patienceMs;
      let seen: StatusView | undefined;
      while (performance.now() < deadlineMs) {
        const running = peers.filter((name) => peer(name).state() === 'running');
        for (const name of running) {
          const view = await statusOf(name);
          if (!view?.current) continue;
          seen = view;
          if (holds(view)) return view;
        }
        await new Promise((resolve) => setTimeout(resolve, pollMs));
        t.signal.throwIfAborted();
      }
      throw new ParleyError(
        'timed-out',
        `not seen within ${patienceMs / 1000} s: ${what}; last ${JSON.stringify(seen)}`,
      );
    },
    headOf: (name) => git(name, 'rev-parse', 'refs/heads/main'),
    messagesOf: async (name) => (await git(name, 'log', '--format=%s', 'refs/heads/main')).split('\n'),
  };
}

/** The peer that leads, by its own word. */
export const controllerOf = (view: StatusView): string => {
  if (view.controller === null) throw new Error('there is no controller');
  return view.controller;
};

export const peerIn = (view: StatusView, name: string): PeerView => {
  const found = view.peers.find((each) => each.name === name);
  if (found === undefined) throw new Error(`'${name}' is not in the view`);
  return found;
};

/** A flake whose systems hardly take time to build. They want a booted systemd, so that their switches are simulated. */
function flakeFor(names: readonly string[], word: string): string {
  const system = `${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux`;
  return `{
  outputs = { self }:
    let
      names = [ ${names.map((name) => `"${name}"`).join(' ')} ];
      each = make: builtins.listToAttrs (map (name: { inherit name; value = make name; }) names);
    in {
      nixosConfigurations = each (name: {
        config.system.build.toplevel = derivation {
          name = "\${name}-${word}";
          system = "${system}";
          builder = "/bin/sh";
          args = [ "-c" "mkdir -p $out/systemd; echo ${word} > $out/nixos-version" ];
        };
      });
      parley.hosts = each (name: { approval = "auto"; });
    };
}
`;
}
