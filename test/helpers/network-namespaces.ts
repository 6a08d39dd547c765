// Owns networks of their own for peers of a test: each host in a network namespace, all joined by one router namespace that
// can drop what goes from one host to another, in one direction or both. Needs no root: without it, all of this happens
// inside a user namespace. Everything is gone with the processes that hold the namespaces.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface HostNetwork {
  /** Where others reach the host. */
  readonly address: string;
  /** Words before a program's own that run it on this host; the process keeps its id. */
  readonly command: readonly string[];
}

export interface TestNetwork {
  host(name: string): HostNetwork;
  /** Drops silently what `from` sends to `to`. */
  cut(from: string, to: string): Promise<void>;
  /** Cuts every host of one group off from every host of the others, both ways. */
  partition(...groups: readonly (readonly string[])[]): Promise<void>;
  /** Lets everything through again. */
  heal(): Promise<void>;
  /** To be called once no program runs on the hosts any more. */
  end(): Promise<void>;
}

interface Holder {
  readonly pid: number;
  readonly child: ChildProcess;
}

/** Hosts of these names, each reaching all others. */
export async function createNetwork(names: readonly string[]): Promise<TestNetwork> {
  const isRoot = process.getuid?.() === 0;
  const holders: Holder[] = [];
  const router = await hold('unshare', [...(isRoot ? [] : ['--user', '--map-root-user']), '--net']);
  holders.push(router);
  const enter = (pid: number): string[] => {
    const user = isRoot ? [] : ['--user', '--preserve-credentials'];
    return ['nsenter', '--target', `${pid}`, ...user, '--net', '--'];
  };
  const onRouter = async (...words: string[]): Promise<void> => {
    const [program = '', ...rest] = [...enter(router.pid), ...words];
    await run(program, rest);
  };
  await onRouter('sh', '-c', 'ip link set lo up && echo 1 > /proc/sys/net/ipv4/ip_forward');

  const hosts = new Map<string, HostNetwork>();
  for (const [position, name] of names.entries()) {
    const [program = '', ...rest] = [...enter(router.pid), 'unshare', '--net'];
    const holder = await hold(program, rest);
    holders.push(holder);
    const number = position + 1;
    const address = `10.77.${number}.2`;
    await onRouter(
      'ip',
      'link',
      'add',
      `host${number}`,
      'type',
      'veth',
      'peer',
      'name',
      'eth0',
      'netns',
      `${holder.pid}`,
    );
    await onRouter('ip', 'address', 'add', `10.77.${number}.1/24`, 'dev', `host${number}`);
    await onRouter('ip', 'link', 'set', `host${number}`, 'up');
    const setUp = `ip link set lo up && ip address add ${address}/24 dev eth0 && ip link set eth0 up && ip route add default via 10.77.${number}.1`;
    const [inside = '', ...words] = [...enter(holder.pid), 'sh', '-c', setUp];
    await run(inside, words);
    hosts.set(name, { address, command: enter(holder.pid) });
  }

  function host(name: string): HostNetwork {
    const found = hosts.get(name);
    if (found === undefined) throw new Error(`no host '${name}' in this network`);
    return found;
  }

  const rules: string[][] = [];
  const network: TestNetwork = {
    host,
    async cut(from, to) {
      const rule = ['from', host(from).address, 'to', host(to).address, 'blackhole'];
      await onRouter('ip', 'rule', 'add', ...rule);
      rules.push(rule);
    },
    async partition(...groups) {
      for (const [at, group] of groups.entries()) {
        const others = groups.filter((_, other) => other !== at).flat();
        for (const from of group) for (const to of others) await network.cut(from, to);
      }
    },
    async heal() {
      for (const rule of rules.splice(0)) await onRouter('ip', 'rule', 'delete', ...rule);
    },
    async end() {
      await Promise.all(holders.map(release));
    },
  };
  return network;
}

/** A process in new namespaces that lives until its standard input closes, so that it dies with the test. */
async function hold(program: string, words: readonly string[]): Promise<Holder> {
  const child = spawn(program, [...words, 'sh', '-c', 'echo $$; exec cat > /dev/null'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit').then(([code]) => {
    throw new Error(`'${program} ${words.join(' ')}' ended with ${code}: no network namespace could be made`);
  });
  const [line] = await Promise.race([once(child.stdout, 'data'), exited]);
  exited.catch(() => undefined);
  return { pid: Number(String(line).trim()), child };
}

async function release({ child }: Holder): Promise<void> {
  if (child.exitCode !== null) return;
  const ended = once(child, 'exit');
  child.stdin?.end();
  await ended;
}
