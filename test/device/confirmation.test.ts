// Shows that a switch counts only once another peer has confirmed it over the network, and that nothing else passes for that.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serveConfirmations } from '../../node/device/confirmation.ts';
import { systemClock } from '../../node/host/clock.ts';
import type { Clock } from '../../node/interfaces.ts';
import { verifySignature } from '../../node/mesh/index.ts';
import { decode, encode } from '../../protocols/codec.ts';
import { confirmationAnswerSchema, confirmationBytesMax, confirmationProtocol } from '../../protocols/confirmation.ts';
import { createManualClock } from '../helpers/manual-clock.ts';
import { seededRandom } from '../helpers/random.ts';
import { becomes } from './doubles.ts';
import { addPeer, begin, carryOut, identityOf, makeWorld, self, system, type World } from './world.ts';

const old = system('old');
const fresh = system('new');

/** Another member that answers confirmations as every device does. */
async function addConfirmer(
  world: World,
  number: number,
  site?: string,
  onAsked = () => {},
  clock: Clock = systemClock,
): Promise<string> {
  const peer = await addPeer(world, number, site);
  const mesh = world.network.join(peer);
  await mesh.start();
  const state = () => {
    onAsked();
    return world.state;
  };
  serveConfirmations(peer, {
    ...{ mesh, verifySignature, identity: identityOf(number), clock },
    randomBytes: (count) => new Uint8Array(count),
    ledger: {
      ...{ state, onApplied: () => () => {}, fetchBlob: async () => new Uint8Array() },
      ...{ certification: () => ({ certifiedIndex: () => 0 }), onCertified: () => () => {} },
    },
  });
  mesh.handle('/hello', async () => {});
  return peer;
}

test('another peer that was reachable before confirms the switch', async (t) => {
  const bootsWhenAsked = new Set<string | null>();
  const { world, run } = await begin(t, async (made) => {
    await addConfirmer(made, 2, undefined, () => bootsWhenAsked.add(made.profile));
    await addConfirmer(made, 3, 'shop');
  });
  const end = await carryOut(world, run);
  assert.deepEqual([end.outcome, end.reason], ['succeeded', null]);
  assert.deepEqual([...bootsWhenAsked], [old], 'the new system is not permanent yet');
});

test('a switch after which nobody can be reached is rolled back', async (t) => {
  let confirmer = '';
  const { world, run } = await begin(t, async (made) => {
    confirmer = await addConfirmer(made, 2);
    made.behaviours.set(fresh, (at) => {
      at.network.kill(confirmer);
      return becomes(fresh)(at);
    });
  });
  const end = await carryOut(world, run);
  assert.equal(end.outcome, 'rolled-back');
  assert.match(end.reason ?? '', /no peer confirmed it within 30000 ms; asked '12D3.*'/);
  assert.deepEqual([world.running, world.profile], [old, old]);
  const alone = await carryOut(world, run, 8, system('alone'));
  assert.match(alone.reason ?? '', /no other peer could be reached before the switch: health alone/);
});

test('a connection from before the switch confirms nothing: the device dials afresh', async (t) => {
  const { world, run } = await begin(t, async (made) => {
    const confirmer = await addConfirmer(made, 2);
    made.behaviours.set(fresh, (at) => {
      at.network.refuseDials(confirmer);
      return becomes(fresh)(at);
    });
  });
  const end = await carryOut(world, run);
  assert.equal(end.outcome, 'rolled-back');
  assert.match(end.reason ?? '', /refuses to be dialled/);
  const next = await carryOut(world, run, 8, system('next'));
  assert.match(next.reason ?? '', /no other peer could be reached before the switch: health alone/);
});

test('one of several confirmers is enough, and a forged confirmation is none', async (t) => {
  const { world, run } = await begin(t, async (made) => {
    const dead = await addConfirmer(made, 2);
    await addConfirmer(made, 3);
    made.behaviours.set(fresh, (at) => {
      at.network.kill(dead);
      return becomes(fresh)(at);
    });
    const forger = await addPeer(made, 4);
    const mesh = made.network.join(forger);
    await mesh.start();
    mesh.handle('/hello', async () => {});
    mesh.handle(confirmationProtocol, async (stream) => {
      await stream.receive();
      await stream.send(encode({ kind: 'confirmed', atMs: 1, signature: new Uint8Array(64) }));
    });
  });
  assert.equal((await carryOut(world, run)).outcome, 'succeeded');
  world.network.kill(identityOf(3).peer);
  const { reason, outcome } = await carryOut(world, run, 8, system('forged'));
  assert.equal(outcome, 'rolled-back');
  assert.match(reason ?? '', /not signed by it/);
});

test('confirmations answer malformed and wrong questions with an error', async (t) => {
  const seed = Number(process.env.PARLEY_SEED ?? Date.now() % 1_000_000);
  t.diagnostic(`PARLEY_SEED=${seed}`);
  const random = seededRandom(seed);
  const world = await makeWorld(t);
  const confirmer = await addConfirmer(world, 2);
  const order = world.order(7, fresh);
  const asker = world.network.join(self);
  await asker.start();
  const ask = async (bytes: Uint8Array) => {
    const signal = AbortSignal.timeout(5_000);
    const stream = await asker.open(confirmer, confirmationProtocol, { signal });
    await stream.send(bytes);
    const answer = await stream.receive({ signal });
    assert.ok(answer !== undefined, `seed ${seed}`);
    return decode(confirmationAnswerSchema, answer, confirmationBytesMax);
  };
  const request = { version: 1, nonce: new Uint8Array(32), order: 7, closure: order.closure, bootId: 'b' };
  assert.equal((await ask(encode(request))).kind, 'confirmed');
  const wrong = await ask(encode({ ...request, closure: system('other') }));
  assert.equal(wrong.kind === 'error' && wrong.error.code, 'order-conflict');
  const whole = encode(request);
  for (let round = 0; round < 300; round += 1) {
    const bytes = Uint8Array.from(whole.subarray(0, Math.ceil(random() * whole.byteLength)));
    bytes[Math.floor(random() * bytes.byteLength)] = Math.floor(random() * 256);
    await ask(bytes);
  }
});

test('serveConfirmations() waits for no request longer than an asker would for the answer', async (t) => {
  const world = await makeWorld(t);
  const clock = createManualClock();
  const confirmer = await addConfirmer(world, 2, undefined, undefined, clock);
  const mesh = world.network.join(await addPeer(world, 3));
  await mesh.start();
  const stream = await mesh.open(confirmer, confirmationProtocol, { signal: AbortSignal.timeout(5_000) });
  const ended = assert.rejects(stream.receive({ signal: AbortSignal.timeout(5_000) }), { code: 'stream-closed' });
  clock.advance(30_000);
  await ended;
});
