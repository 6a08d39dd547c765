// Shows what a device does with orders: switches, degrades, goes back, refuses, waits, and says truthfully what it did.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { ParleyError } from '../../protocols/errors.ts';
import type { Report } from '../../protocols/journal.ts';
import { becomes } from './doubles.ts';
import { begin, carryOut, type Run, self, system } from './world.ts';

const old = system('old');
const fresh = system('new');

const statesOf = (reports: readonly Report[]) =>
  reports.flatMap((report) => (report.kind === 'order-step' ? [report.body.state] : []));

test('an order is carried out in the order of its states, each reported before its step', async (t) => {
  const { world, run } = await begin(t);
  const end = await carryOut(world, run);
  assert.deepEqual(end, {
    order: 7,
    outcome: 'succeeded',
    reason: 'this is the only peer of its fleet: health alone was relied on',
    failedUnits: [],
    simulated: false,
  });
  assert.deepEqual([world.running, world.profile], [fresh, fresh]);
  assert.deepEqual(world.calls, ['test new', 'boot new']);
  const reports = await run.reports();
  assert.deepEqual(
    reports.map(({ kind }) => kind).filter((kind) => kind !== 'order-step'),
    ['device-booted', 'order-accepted', 'order-ended'],
  );
  const states = ['checked', 'fetched', 'rooted', 'armed', 'testing', 'active', 'healthy', 'confirmed', 'committed'];
  assert.deepEqual(statesOf(reports), states);
  assert.equal(reports.at(-1)?.running, fresh);
  const running = reports.flatMap((report) =>
    report.kind === 'order-step' && report.body.state === 'testing' ? [report.running] : [],
  );
  assert.deepEqual(running, [old]);
});

test('what a device does and what its systems print goes to the log of its own part of the task', async (t) => {
  const { world, run } = await begin(t, (made) => {
    made.behaviours.set(fresh, (at) => {
      at.print('activating the configuration...');
      return becomes(fresh)(at);
    });
  });
  await carryOut(world, run);
  const lines: string[] = [];
  const signal = AbortSignal.timeout(5_000);
  for await (const line of run.journal.readLogs({ peer: self, task: 't7/web1', follow: true, signal })) {
    lines.push(`${line.stream} ${line.text}`);
  }
  assert.ok(lines.includes('stdout activating the configuration...'), lines.join('\n'));
  assert.equal(lines[0], 'parley checking the order');
  assert.match(lines.at(-1) ?? '', /^parley succeeded/);
});

test('new failed units make a switch degraded, those of before do not', async (t) => {
  const { world, run } = await begin(t, (made) => {
    made.failedUnits.set(old, ['before.service']);
    made.failedUnits.set(fresh, ['before.service', 'web.service']);
  });
  const end = await carryOut(world, run);
  assert.deepEqual([end.outcome, end.failedUnits], ['degraded', ['web.service']]);
  assert.match(end.reason ?? '', /failed units: web\.service/);
  assert.equal(world.running, fresh);
  world.failedUnits.set(system('newer'), ['web.service']);
  assert.equal((await carryOut(world, run, 8, system('newer'))).outcome, 'succeeded');
});

test('status 4 is degraded and stays switched', async (t) => {
  const { world, run } = await begin(t, (made) => {
    made.behaviours.set(fresh, becomes(fresh, 4, 'warning: the following units failed: wait-online.service'));
  });
  const end = await carryOut(world, run);
  assert.equal(end.outcome, 'degraded');
  assert.match(end.reason ?? '', /units failed during the switch \(status 4\): warning: .*wait-online/);
  assert.deepEqual([world.running, world.profile], [fresh, fresh]);
});

for (const [what, exitCode, output] of [
  ['its pre-switch check', 1, 'pre-switch check failed'],
  ['its activation', 2, 'Activation script snippet failed'],
  ['its activation, hidden by failed units', 4, 'Failed to run activate script\nwarning: units failed'],
  ['its own program', 101, 'panicked'],
  ['a signal', 137, ''],
] as const) {
  test(`a switch that fails by ${what} is rolled back by the old system's own program`, async (t) => {
    const { world, run } = await begin(t, (made) => made.behaviours.set(fresh, becomes(fresh, exitCode, output)));
    const end = await carryOut(world, run);
    assert.equal(end.outcome, 'rolled-back');
    assert.match(end.reason ?? '', new RegExp(`\\(status ${exitCode}\\).*${output.split('\n').at(-1)}`));
    assert.deepEqual(world.calls, ['test new', 'test! old']);
    assert.deepEqual([world.running, world.profile], [old, old]);
    assert.equal((await run.reports()).at(-1)?.running, old);
    world.apply({ orders: { ...world.state.orders } });
    assert.equal((await carryOut(world, run, 8, system('next'))).outcome, 'succeeded');
  });
}

test('a rollback is reported as such only when the old system runs again', async (t) => {
  const { world, run } = await begin(t, (made) => {
    made.behaviours.set(fresh, becomes(fresh, 2, 'broken'));
    made.behaviours.set(old, () => ({ exitCode: 0, output: 'I did nothing' }));
  });
  const end = await carryOut(world, run);
  assert.equal(end.outcome, 'rollback-failed');
  assert.match(end.reason ?? '', /broken; going back failed: '.*-new' runs instead of '.*-old'/);
  assert.equal((await run.reports()).at(-1)?.running, fresh);
  assert.equal(world.calls.filter((call) => call === 'test! old').length, 3);
});

test('a switch that says fine without running the new system is rolled back', async (t) => {
  const { world, run } = await begin(t, (made) => made.behaviours.set(fresh, () => ({ exitCode: 0, output: '' })));
  const end = await carryOut(world, run);
  assert.equal(end.outcome, 'rolled-back');
  assert.match(end.reason ?? '', /its switch ended well, but '.*-old' runs/);
});

test('status 100 leaves the old system alone and needs a reboot', async (t) => {
  const { world, run } = await begin(t, (made) =>
    made.behaviours.set(fresh, () => ({ exitCode: 100, output: 'incompatible init' })),
  );
  const end = await carryOut(world, run);
  assert.equal(end.outcome, 'needs-reboot');
  assert.deepEqual([world.running, world.profile], [old, old]);
  assert.deepEqual(world.calls, ['test new']);
});

test('status 11 is tried again until the other switch is done', async (t) => {
  let locked = 3;
  const { world, run } = await begin(t, (made) =>
    made.behaviours.set(fresh, (at) => {
      locked -= 1;
      return locked >= 0 ? { exitCode: 11, output: 'locked' } : becomes(fresh)(at);
    }),
  );
  assert.equal((await carryOut(world, run)).outcome, 'succeeded');
  assert.equal(world.calls.filter((call) => call === 'test new').length, 4);
});

test('a first switch that fails goes back to no system and says so', async (t) => {
  const { world, run } = await begin(t, (made) => {
    Object.assign(made, { running: null, profile: null, booted: null });
    made.behaviours.set(fresh, becomes(fresh, 2, 'broken'));
  });
  const end = await carryOut(world, run);
  assert.equal(end.outcome, 'rolled-back');
  assert.match(end.reason ?? '', /no system before: none runs now/);
  assert.deepEqual([world.running, world.profile], [null, null]);
  assert.equal((await run.reports()).at(-1)?.running, null);
});

test('a system that needs a booted systemd is only marked as running', async (t) => {
  const { world, run } = await begin(t, (made) => made.simulated.add(fresh));
  const end = await carryOut(world, run);
  assert.deepEqual([end.outcome, end.simulated], ['succeeded', true]);
  assert.deepEqual(world.calls, ['simulated new']);
  assert.deepEqual([world.running, world.profile], [fresh, fresh]);
});

test('a boot default that keeps failing takes the device back whole', async (t) => {
  const { world, run } = await begin(t, (made) => {
    made.onBootDefault = (toplevel) => ({ exitCode: toplevel === fresh ? 1 : 0, output: '/boot is full' });
  });
  const end = await carryOut(world, run);
  assert.equal(end.outcome, 'rolled-back');
  assert.match(end.reason ?? '', /could not be made the system to boot.*\/boot is full/);
  assert.deepEqual([world.running, world.profile], [old, old]);
  assert.deepEqual(world.calls, ['test new', 'boot new', 'boot new', 'boot new', 'test! old', 'boot old']);
});

test('a person who switches meanwhile wins', async (t) => {
  const other = system('by-hand');
  const { world, run } = await begin(t, (made) => {
    made.behaviours.set(fresh, (at) => {
      at.running = other;
      return { exitCode: 2, output: 'broken' };
    });
  });
  const end = await carryOut(world, run);
  assert.equal(end.outcome, 'superseded');
  assert.match(end.reason ?? '', /somebody switched to '.*-by-hand' meanwhile: left as it is/);
  assert.deepEqual([world.running, world.profile], [other, old]);
});

test('an order that does not follow from its plan is refused', async (t) => {
  const { world, run } = await begin(t);
  world.order(7, fresh);
  await run.ended(7);
  const { plan } = world.order(8, system('planned'));
  await run.ended(8);
  world.order(9, system('other'), { plan });
  const end = await run.ended(9);
  assert.equal(end?.outcome, 'refused');
  assert.match(end?.reason ?? '', /order 9 does not follow from its plan: the plan has closure '.*-planned'/);
  assert.equal(world.running, system('planned'));
});

test('an order is refused without room, without a way back, or for what is no system', async (t) => {
  const { world, run } = await begin(t, (made) => {
    made.freeBytes = 100e6;
    made.missingBytes = 50e6;
    made.onFetch = (signal) =>
      new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  });
  const tight = await carryOut(world, run);
  assert.equal(tight.outcome, 'refused');
  assert.match(tight.reason ?? '', /not enough space for the closure: 160 MiB needed, 96 MiB free/);
  world.freeBytes = 1e12;
  world.onFetch = async () => {};
  const wrong = await carryOut(world, run, 8, system('x-nosystem'));
  assert.deepEqual([wrong.outcome, wrong.reason], ['refused', `'${system('x-nosystem')}' is no NixOS system`]);
  world.running = system('lost-nosystem');
  const trapped = await carryOut(world, run, 9);
  assert.equal(trapped.outcome, 'refused');
  assert.match(trapped.reason ?? '', /no way back to the running system/);
});

test('an order is withdrawn by a cancellation or a newer order until it is armed', async (t) => {
  const fetching = Promise.withResolvers<void>();
  const { world, run } = await begin(t, (made) => {
    made.onFetch = (signal) => {
      fetching.resolve();
      return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    };
  });
  const order = world.order(7, fresh);
  await fetching.promise;
  world.apply({ orders: { web1: { ...order, cancelled: true } } });
  assert.equal((await run.ended(7))?.outcome, 'cancelled');
  const again = Promise.withResolvers<void>();
  world.onFetch = (signal) => {
    again.resolve();
    return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  };
  world.order(8, fresh);
  await again.promise;
  world.onFetch = async () => {};
  world.order(9, system('newer'));
  assert.equal((await run.ended(8))?.outcome, 'superseded');
  assert.equal((await run.ended(9))?.outcome, 'succeeded');
  assert.deepEqual(world.calls, ['test newer', 'boot newer']);
});

test('a newer order waits for an armed one to end', async (t) => {
  const { world, run } = await begin(t, (made) => {
    made.behaviours.set(fresh, (at) => {
      at.order(8, system('newer'));
      return becomes(fresh)(at);
    });
  });
  assert.equal((await carryOut(world, run)).outcome, 'succeeded');
  assert.equal((await run.ended(8))?.outcome, 'succeeded');
  assert.deepEqual(world.calls, ['test new', 'boot new', 'test newer', 'boot newer']);
});

test('a cancellation before the point of no return leads back to the old system', async (t) => {
  const { world, run } = await begin(t, (made) => {
    made.behaviours.set(fresh, (at) => {
      const order = at.state.orders.web1;
      assert.ok(order !== undefined);
      at.apply({ orders: { web1: { ...order, cancelled: true } } });
      return becomes(fresh)(at);
    });
  });
  const before = world.running;
  assert.equal((await carryOut(world, run)).outcome, 'cancelled');
  assert.equal(world.running, before);
  assert.ok(!world.calls.includes('boot new'));
});

test('a cancellation from the point of no return on comes too late', async (t) => {
  const { world, run } = await begin(t);
  run.journal.onAppended((report) => {
    const order = world.state.orders.web1;
    if (report.kind !== 'order-step' || report.body.state !== 'confirmed' || order === undefined) return;
    world.apply({ orders: { web1: { ...order, cancelled: true } } });
  });
  assert.equal((await carryOut(world, run)).outcome, 'succeeded');
  assert.equal(world.running, fresh);
});

test('orders that are cancelled, ended, lower or for another peer are left alone', async (t) => {
  const { world, run } = await begin(t);
  world.order(7, fresh, { cancelled: true });
  world.order(8, fresh, { outcome: 'superseded' });
  world.order(9, fresh, { peer: '12D3KooWother' });
  await carryOut(world, run, 10, system('ten'));
  world.order(9, fresh);
  await carryOut(world, run, 11, system('eleven'));
  assert.deepEqual(world.calls, ['test ten', 'boot ten', 'test eleven', 'boot eleven']);
  assert.deepEqual(
    (await run.reports()).flatMap((report) => (report.kind === 'order-accepted' ? [report.body.order] : [])),
    [10, 11],
  );
});

test('an order that was cancelled before it came is declined once, and nothing is run', async (t) => {
  const { world, run } = await begin(t);
  world.order(7, fresh, { cancelled: true });
  assert.equal((await run.ended(7))?.outcome, 'cancelled');
  world.apply({});
  await carryOut(world, run, 8, system('next'));
  const ends = (await run.reports()).flatMap((report) => (report.kind === 'order-ended' ? [report.body.order] : []));
  assert.deepEqual(ends, [7, 8]);
  assert.deepEqual(world.calls, ['test next', 'boot next']);
});

test('two orders under one number raise an alarm, and nothing is accepted any more', async (t) => {
  const { world, run } = await begin(t);
  await carryOut(world, run);
  const alarmed = Promise.withResolvers<void>();
  run.journal.onAppended((report) => {
    if (report.kind === 'device-alarmed') alarmed.resolve();
  });
  world.order(7, system('rival'));
  await alarmed.promise;
  world.order(8, system('later'));
  await run.stop();
  const next = await world.start();
  t.after(() => next.stop());
  assert.deepEqual(world.calls, ['test new', 'boot new']);
  assert.equal((await next.reports()).filter(({ kind }) => kind === 'device-alarmed').length, 1);
});

test('a fetch that fails for now is tried again while there is progress or patience', async (t) => {
  let left = 3;
  const { world, run } = await begin(t, (made) => {
    made.onFetch = async () => {
      left -= 1;
      if (left >= 0) throw new ParleyError('closure-unavailable', 'nobody has it', { retryable: true });
    };
  });
  assert.equal((await carryOut(world, run)).outcome, 'succeeded');
  world.onFetch = async () => {
    throw new ParleyError('closure-unavailable', 'nobody has it', { retryable: true });
  };
  const end = await carryOut(world, run, 8, system('never'));
  assert.deepEqual([end.outcome, end.reason], ['failed', 'nobody has it']);
  world.onFetch = async () => {
    throw new ParleyError('content-mismatch', "peer 'web2' sent something else");
  };
  assert.match((await carryOut(world, run, 9, system('forged'))).reason ?? '', /web2/);
  assert.equal(world.running, fresh);
});

async function reportCount(run: Run, count: number): Promise<void> {
  while ((await run.reports()).length < count) await turn();
}

test('the running system is reported when it changed while the peer was away', async (t) => {
  const { world, run } = await begin(t);
  await reportCount(run, 1);
  await run.stop();
  world.running = system('by-hand');
  const second = await world.start();
  await reportCount(second, 2);
  await second.stop();
  world.reboot();
  const third = await world.start();
  t.after(() => third.stop());
  await reportCount(third, 3);
  const reports = (await third.reports()).map(({ kind, running }) => [kind, running]);
  assert.deepEqual(reports, [
    ['device-booted', old],
    ['running-changed', system('by-hand')],
    ['device-booted', old],
  ]);
  assert.deepEqual([third.device.running(), third.device.booted()], [old, old]);
});

test('activity() tells what is done and how far it is', async (t) => {
  const seen: string[] = [];
  const { world, run } = await begin(t);
  run.device.onChange(() => {
    const activity = run.device.activity();
    if (activity !== null)
      seen.push(`${activity.order} ${activity.state} ${activity.bytesDone}/${activity.bytesTotal}`);
  });
  await carryOut(world, run);
  assert.ok(seen.includes('7 checked 0/1000') && seen.includes('7 checked 1000/1000'), seen.join(', '));
  assert.ok(seen.includes('7 testing 0/0'));
  while (run.device.activity() !== null) await turn();
});

test('garbage-collector roots are left for the running system and the way back only', async (t) => {
  const { world, run } = await begin(t);
  for (const [index, name] of ['one', 'two', 'three'].entries()) await carryOut(world, run, 7 + index, system(name));
  while (run.device.activity() !== null) await turn();
  assert.deepEqual(world.roots(), ['three', 'two']);
});
