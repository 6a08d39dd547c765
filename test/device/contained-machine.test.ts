// Shows that a closure's programs run in the container or not at all, and what such a program cannot do.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { createContainedMachine } from '../../node/host/index.ts';
import type { ProcessRunner } from '../../node/interfaces.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { becomeCurrent, makeWorkshop, runner, switchProgram, type Workshop } from './toplevels.ts';

async function makeMachine(t: TestContext) {
  const workshop = await makeWorkshop(t);
  const machine = openMachine(workshop);
  await machine.prepare();
  return { workshop, machine };
}

function openMachine(workshop: Workshop, switchTimeoutMs = 60_000, programs: ProcessRunner = runner) {
  const { storeRoot, rootFolder, nix } = workshop;
  return createContainedMachine({ storeRoot, rootFolder, switchTimeoutMs })({ runner: programs, nix });
}

test('switchToConfiguration() runs the toplevel with the device as its root and gives status and lines', async (t) => {
  const { workshop, machine } = await makeMachine(t);
  const toplevel = await workshop.addToplevel(
    switchProgram(becomeCurrent, 'echo "action $1 check $NIXOS_NO_CHECK"', 'echo trouble >&2', 'exit 4'),
  );
  assert.equal(await machine.running(), null);
  const lines: string[] = [];
  const onLine = (line: string, stream: string) => lines.push(`${stream} ${line}`);
  const result = await machine.switchToConfiguration(toplevel, 'test', { onLine });
  assert.equal(result.exitCode, 4);
  assert.deepEqual(lines.sort(), ['stderr trouble', 'stdout action test check ']);
  assert.equal(await machine.running(), toplevel);
  const again = await machine.switchToConfiguration(toplevel, 'boot', { skipChecks: true });
  assert.match(again.output, /action boot check 1/);
});

/** Where something is mounted in a container; all else would be the operator's. */
const ownMounts = '^(/|/nix/store|/run|/var|/etc|/tmp|/proc|/dev/(null|zero|random|urandom))$';

/** Runs programs with a descriptor that is open on a file of the machine, as a careless parent process would. */
const careless: ProcessRunner = {
  run({ program, arguments: words, ...request }) {
    const script = 'exec 9</etc/passwd; exec "$@"';
    return runner.run({ ...request, program: '/bin/sh', arguments: ['-c', script, 'careless', program, ...words] });
  },
};

test('switchToConfiguration() keeps a hostile program from everything but its own folders', async (t) => {
  const { workshop } = await makeMachine(t);
  const machine = openMachine(workshop, 60_000, careless);
  const outside = path.join(workshop.folder, 'outside');
  await writeFile(outside, 'untouched', { mode: 0o666 });
  const server = createServer((socket) => socket.end('reached'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  const attempt = (name: string, command: string) => `if ${command}; then echo "BROKE-OUT ${name}"; fi`;
  const toplevel = await workshop.addToplevel(
    switchProgram(
      'export PATH=/tools; b=$busybox',
      attempt('shadow', '$b cat /etc/shadow'),
      attempt('host-file', `$b cat ${outside}`),
      attempt('host-write', `echo changed > ${outside}`),
      attempt('host-through-proc', `$b cat /proc/1/root${outside}`),
      attempt('host-root', '$b ls /root /home'),
      attempt('sys', '$b ls /sys'),
      attempt('host-process', '[ "$($b ls -d /proc/[0-9]* | $b wc -l)" -gt 6 ]'),
      attempt('kill', `$b kill -0 ${process.pid}`),
      attempt('network', `echo hi | $b nc -w 2 127.0.0.1 ${address.port}`),
      attempt('store-write', 'echo x > /nix/store/x'),
      attempt('root-write', 'echo x > /x'),
      attempt('remount', '$b mount -o remount,rw /nix/store'),
      attempt('mount', '$b mount -t tmpfs none /tmp'),
      attempt('umount', '$b umount /nix/store'),
      attempt('mknod', '$b mknod /tmp/disk b 254 0'),
      attempt('chroot', '$b chroot /tmp $b true'),
      attempt('namespace', '$b unshare -U -r $b true'),
      attempt('more-namespaces', 'echo 9 > /proc/sys/user/max_user_namespaces'),
      attempt('sysctl', 'echo "|/tmp/x" > /proc/sys/kernel/core_pattern'),
      attempt('sysrq', 'echo h > /proc/sysrq-trigger'),
      attempt('host-name', '$b hostname elsewhere'),
      attempt(
        'capabilities',
        '$b grep -E "^Cap(Inh|Prm|Eff|Bnd|Amb):" /proc/self/status | $b grep -vq 0000000000000000',
      ),
      attempt('new-privileges', '$b grep -q "NoNewPrivs:.0" /proc/self/status'),
      attempt('descriptors', `$b find /proc/$$/fd -type l -exec $b readlink {} ";" | $b grep passwd`),
      attempt('foreign-mounts', `$b cut -d " " -f 2 /proc/mounts | $b grep -Ev "${ownMounts}"`),
      attempt('foreign-files', '$b ls -A / | $b grep -Ev "^(busybox|dev|etc|nix|proc|run|tmp|var)$"'),
      attempt('writable-store', '$b grep " /nix/store " /proc/mounts | $b grep -v " ro,"'),
      attempt('host-name-seen', '[ "$($b hostname)" != device ]'),
      attempt('own-namespace', '$b unshare -U $b true'),
      'echo mine > /var/mine && echo finished',
    ),
  );
  const { exitCode, output } = await machine.switchToConfiguration(toplevel, 'test');
  assert.equal(exitCode, 0, output);
  assert.match(output, /finished/);
  assert.doesNotMatch(output, /BROKE-OUT/);
  assert.equal(await readFile(outside, 'utf8'), 'untouched');
  assert.equal(await readFile(path.join(workshop.rootFolder, 'var/mine'), 'utf8'), 'mine\n');
});

test('switchToConfiguration() ends with every process that it started at the deadline and on cancel', async (t) => {
  const { workshop } = await makeMachine(t);
  const mark = `${process.pid}${Date.now()}`;
  const toplevel = await workshop.addToplevel(
    switchProgram(
      `$busybox setsid $busybox sleep ${mark} &`,
      'echo started',
      'trap "" TERM',
      'while :; do $busybox sleep 1; done',
    ),
  );
  const isAlive = async () => {
    const { stdout } = await runner.run({ program: 'ps', arguments: ['-eo', 'args'] });
    return Buffer.from(stdout).toString('utf8').includes(`sleep ${mark}`);
  };
  await assert.rejects(openMachine(workshop, 300).switchToConfiguration(toplevel, 'test'), { code: 'timed-out' });
  assert.equal(await isAlive(), false);
  const cancel = new AbortController();
  const running = openMachine(workshop).switchToConfiguration(toplevel, 'test', {
    signal: cancel.signal,
    onLine: () => cancel.abort(),
  });
  await assert.rejects(running, { code: 'cancelled' });
  assert.equal(await isAlive(), false);
});

test('canRun() simulates what needs a booted systemd and refuses what is no system', async (t) => {
  const { workshop, machine } = await makeMachine(t);
  const evidence = path.join(workshop.rootFolder, 'var/ran');
  const real = await workshop.addToplevel({ systemd: 'link', ...switchProgram('echo ran > /var/ran') });
  assert.equal((await machine.canRun(real)).kind, 'simulated');
  await assert.rejects(machine.switchToConfiguration(real, 'test'), { code: 'containment-unavailable' });
  await machine.setRunningSimulated(real);
  assert.equal(await machine.running(), real);
  assert.deepEqual(await machine.failedUnits(), []);
  assert.equal(existsSync(evidence), false);
  await machine.setRunningSimulated(null);
  assert.equal(await machine.running(), null);
  await assert.rejects(machine.canRun(await workshop.addToplevel({})), { code: 'not-a-system' });
  await assert.rejects(machine.canRun(`/nix/store/${'a'.repeat(32)}-absent`), { code: 'not-a-system' });
  await assert.rejects(machine.canRun('/etc'), { code: 'malformed' });
});

test('failedUnits() asks the running system in the container', async (t) => {
  const { workshop, machine } = await makeMachine(t);
  const systemctl = [
    '#!$busybox sh',
    'echo "caddy.service loaded failed failed Web"',
    'echo "● a.service x"',
    'echo "$@" >&2',
  ];
  const toplevel = await workshop.addToplevel({
    ...switchProgram(becomeCurrent),
    'sw/bin/systemctl': systemctl.join('\n'),
  });
  assert.deepEqual(await machine.failedUnits(), []);
  await machine.switchToConfiguration(toplevel, 'test');
  assert.deepEqual(await machine.failedUnits(), ['caddy.service', 'a.service']);
  const broken = await workshop.addToplevel({
    ...switchProgram(becomeCurrent),
    'sw/bin/systemctl': ['#!$busybox sh', 'echo cannot connect >&2', 'exit 1'].join('\n'),
  });
  await machine.switchToConfiguration(broken, 'test');
  await assert.rejects(machine.failedUnits(), { code: 'units-unreadable', message: /cannot connect/ });
});

test('setProfile() names the next boot, and prepare() takes it as running after a reboot', async (t) => {
  const { workshop, machine } = await makeMachine(t);
  const first = await workshop.addToplevel(switchProgram('echo 1'));
  const second = await workshop.addToplevel(switchProgram('echo 2'));
  assert.equal(await machine.profile(), null);
  await machine.setProfile(first);
  assert.equal(await machine.profile(), first);
  await workshop.nix.collectGarbage();
  assert.deepEqual([existsSync(workshop.storeRoot + first), existsSync(workshop.storeRoot + second)], [true, false]);
  await machine.setRunningSimulated(second);
  await machine.prepare();
  assert.equal(await machine.running(), second);
  await writeFile(path.join(workshop.rootFolder, '.boot-id'), 'an earlier boot');
  await machine.prepare();
  assert.equal(await machine.running(), first);
  assert.equal(await machine.booted(), first);
  assert.deepEqual((await readdir(path.join(workshop.rootFolder, 'run'))).sort(), ['booted-system', 'current-system']);
  await machine.setProfile(null);
  assert.equal(await machine.profile(), null);
  assert.ok((await machine.freeBytes()) > 0);
  assert.match(await machine.bootId(), /^[0-9a-f-]{36}$/);
});

test('running() takes nothing but a store path for a system', async (t) => {
  const { workshop, machine } = await makeMachine(t);
  await symlink('/etc/passwd', path.join(workshop.rootFolder, 'run/current-system'));
  assert.equal(await machine.running(), null);
});

test('canRun() refuses with a hint where namespaces are refused, and runs nothing', async (t) => {
  const workshop = await makeWorkshop(t);
  const refusing = {
    run: (request: Parameters<typeof runner.run>[0]) =>
      runner.run({
        ...request,
        arguments: request.arguments.map((word) => (word === '--net' ? '--no-such-namespace' : word)),
      }),
  };
  const { storeRoot, rootFolder, nix } = workshop;
  const machine = createContainedMachine({ storeRoot, rootFolder, switchTimeoutMs: 60_000 })({ runner: refusing, nix });
  await machine.prepare();
  const toplevel = await workshop.addToplevel(switchProgram('echo ran > /var/ran'));
  await assert.rejects(machine.canRun(toplevel), (error) => {
    assert.ok(error instanceof ParleyError);
    assert.equal(error.code, 'containment-unavailable');
    assert.match(String(error.hint), /busybox-static/);
    return true;
  });
  assert.equal(existsSync(path.join(rootFolder, 'var/ran')), false);
});
