// Owns the stories that crash tests tell, each with a crash or a power cut before or after anything that leaves a trace, and
// what must be true at the end of any of them.

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { OrderEnd, OrderState } from '../../protocols/journal.ts';
import { becomes } from './doubles.ts';
import { makeWorld, type Run, system, type World } from './world.ts';

export const old = system('old');
export const fresh = system('new');
export const number = 7;

export interface Story {
  readonly prepare: (world: World) => unknown;
  /** What the device must come to when nothing interrupts it. */
  readonly outcome: string;
}

export const stories: Readonly<Record<string, Story>> = {
  'a good system': { prepare: () => {}, outcome: 'succeeded' },
  'a degraded system': { prepare: (world) => world.failedUnits.set(fresh, ['web.service']), outcome: 'degraded' },
  'a system that fails': {
    prepare: (world) => world.behaviours.set(fresh, becomes(fresh, 2, 'broken')),
    outcome: 'rolled-back',
  },
  'a system that cannot become the boot default': {
    prepare: (world) => {
      world.onBootDefault = (toplevel) => ({ exitCode: toplevel === fresh ? 1 : 0, output: 'full' });
    },
    outcome: 'rolled-back',
  },
  'a first system': {
    prepare: (world) => Object.assign(world, { running: null, profile: null, booted: null }),
    outcome: 'succeeded',
  },
  'a first system that fails': {
    prepare: (world) => {
      Object.assign(world, { running: null, profile: null, booted: null });
      world.behaviours.set(fresh, becomes(fresh, 1, 'broken'));
    },
    outcome: 'rolled-back',
  },
  'a simulated system': { prepare: (world) => world.simulated.add(fresh), outcome: 'succeeded' },
};

interface Interruption {
  readonly afterTraces: number;
  readonly isReboot: boolean;
}

/** Carries out one order over interruptions; gives its end and the states in which the device was interrupted. */
export async function live(world: World, interruptions: readonly Interruption[]) {
  const before = world.running;
  world.order(number, fresh);
  const interruptedIn: OrderState[] = [];
  let end: OrderEnd | undefined;
  let run: Run | undefined;
  for (const interruption of [...interruptions, undefined]) {
    world.crashIn = interruption?.afterTraces ?? Number.POSITIVE_INFINITY;
    run = await world.start();
    end = await run.ended(number);
    if (end !== undefined && world.crashIn !== Number.POSITIVE_INFINITY) world.crashIn = Number.POSITIVE_INFINITY;
    if (end !== undefined) break;
    await run.stop();
    const slot = world.slot();
    if (slot !== undefined) interruptedIn.push(slot.state);
    if (interruption?.isReboot) world.reboot();
  }
  assert.ok(end !== undefined && run !== undefined);
  const reports = await run.reports();
  await run.stop();
  return { end, before, reports, interruptedIn };
}

export function checkTruth(
  world: World,
  story: Story,
  { end, before, reports, interruptedIn }: Awaited<ReturnType<typeof live>>,
) {
  const ends = reports.filter((report) => report.kind === 'order-ended');
  assert.equal(ends.length, 1, 'reported once');
  assert.equal(ends[0]?.running, world.running, 'the report tells what runs');
  const isNew = end.outcome === 'succeeded' || end.outcome === 'degraded';
  assert.deepEqual([world.running, world.profile], isNew ? [fresh, fresh] : [before, before], 'exactly old or new');
  assert.ok([story.outcome, 'rolled-back'].includes(end.outcome), end.outcome);
  if (story.outcome !== 'rolled-back') {
    const isUndone = interruptedIn.some((state) => ['testing', 'active', 'healthy', 'undoing'].includes(state));
    assert.equal(end.outcome, isUndone ? 'rolled-back' : story.outcome, 'undone before confirmed, finished from it on');
  }
}

export async function tell(t: TestContext, story: Story, interruptions: readonly Interruption[]) {
  const world = await makeWorld(t);
  story.prepare(world);
  try {
    const lived = await live(world, interruptions);
    checkTruth(world, story, lived);
    return { world, ...lived };
  } catch (cause) {
    throw new Error(`after ${JSON.stringify(interruptions)}: ${(cause as Error).message}`, { cause });
  }
}

/** A test that tells a story once for each trace. */
export function testStory(name: string): void {
  const story = stories[name];
  assert.ok(story !== undefined);
  test(`${name} ends as exactly old or new after a crash at any trace`, async (t) => {
    const undisturbed = await tell(t, story, []);
    assert.equal(undisturbed.end.outcome, story.outcome);
    const states = new Set<OrderState>();
    for (let afterTraces = 0; afterTraces < undisturbed.world.traces; afterTraces += 1) {
      for (const isReboot of [false, true]) {
        const { interruptedIn, world } = await tell(t, story, [{ afterTraces, isReboot }]);
        for (const state of interruptedIn) states.add(state);
        const tried = world.calls.filter((call) => call === 'test new').length;
        assert.ok(isReboot || tried <= 1, 'a system is not tried twice');
      }
    }
    const least: readonly OrderState[] = ['ordered', 'checked', 'fetched', 'rooted', 'armed', 'testing'];
    for (const state of least) assert.ok(states.has(state), `interrupted in '${state}'`);
  });
}
