// Members that follow voters: catching up, changing over, starting again, a full disk, and voters that lie.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { systemClock } from '../../node/host/clock.ts';
import type { Clock, MessageStream } from '../../node/interfaces.ts';
import { readGenesis } from '../../node/ledger/index.ts';
import { encode, sha256Hex } from '../../protocols/codec.ts';
import { entryChainHash } from '../../protocols/consensus-record.ts';
import { entryPullProtocol } from '../../protocols/entry-pull.ts';
import { encodeEntry } from '../../protocols/ledger-entries.ts';
import { caughtUp, createLedgerFleet, diskFull, type LedgerFleet, letGo, patient } from '../helpers/ledger-peers.ts';
import { hash, peerIdOf } from '../helpers/ledger-script.ts';
import { seededRandom } from '../helpers/random.ts';
import { signedBy } from '../helpers/voter-keys.ts';

test('createLedger() follows a voter and hears of a new entry at once', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  await fleet.fill(20);
  const web1 = await fleet.add('web1', 'voters');
  await caughtUp(web1, n1);
  const startMs = performance.now();
  await fleet.fill(1);
  await caughtUp(web1, n1);
  assert.ok(performance.now() - startMs < 4_000);
});

test('createLedger() follows another voter when one dies', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  const n2 = await fleet.add('n2', 'consensus');
  await fleet.enrol('n2', ['voter']);
  const web1 = await fleet.add('web1', 'voters');
  await fleet.enrol('web1');
  await caughtUp(web1, n1);
  fleet.network.kill(n2.peer);
  await fleet.fill(2);
  await caughtUp(web1, n1);
  fleet.network.revive(n2.peer);
  fleet.network.kill(n1.peer);
  await fleet.fill(2);
  await caughtUp(web1, n2);
});

test('createLedger() starts from its own records and pulls only what it lacks', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  const web1 = await fleet.add('web1', 'voters');
  await fleet.fill(10);
  await caughtUp(web1, n1);
  // Without its last snapshot, as after a crash.
  web1.store.onBatch = (operations) => {
    if (operations.some(({ key }) => key.startsWith('snapshot/'))) diskFull();
  };
  await web1.stop();
  web1.store.onBatch = () => undefined;
  fleet.network.kill(n1.peer);
  await web1.start();
  assert.equal(web1.ledger.state().index, 11);
  fleet.network.revive(n1.peer);
  await fleet.fill(1);
  await caughtUp(web1, n1);
});

test('createLedger() pulls again what is damaged in its own records', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  const web1 = await fleet.add('web1', 'voters');
  await fleet.fill(10);
  await caughtUp(web1, n1);
  web1.store.onBatch = (operations) => {
    if (operations.some(({ key }) => key.startsWith('snapshot/'))) diskFull();
  };
  await web1.stop();
  web1.store.onBatch = () => undefined;
  const damaged = [{ type: 'put', key: `entry/${'7'.padStart(16, '0')}`, value: new Uint8Array(3) }] as const;
  await web1.store.batch(damaged, { sync: true });
  fleet.network.kill(n1.peer);
  await web1.start();
  assert.equal(web1.ledger.state().index, 6);
  fleet.network.revive(n1.peer);
  await caughtUp(web1, n1);
});

test('createLedger() takes a checkpoint where the voters have let go of what it lacks', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  const web1 = await fleet.add('web1', 'voters');
  await fleet.fill(3);
  await caughtUp(web1, n1);
  await web1.stop();
  await letGo(fleet, n1);
  await web1.start();
  await caughtUp(web1, n1);
  await fleet.fill(1);
  await caughtUp(web1, n1);
  const { index } = web1.ledger.state();
  await web1.stop();
  fleet.network.kill(n1.peer);
  await web1.start();
  assert.equal(web1.ledger.state().index, index);
  assert.equal(web1.ledger.certification().certifiedIndex(), index);
});

test('createLedger() applies nothing that is not on its disk, says so, and goes on when there is room', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  const web1 = await fleet.add('web1', 'voters');
  await fleet.fill(2);
  await caughtUp(web1, n1);
  const refused = Promise.withResolvers<void>();
  web1.store.onBatch = () => {
    refused.resolve();
    diskFull();
  };
  await fleet.fill(3);
  await refused.promise;
  assert.equal(web1.ledger.state().index, 3);
  web1.store.onBatch = () => undefined;
  await caughtUp(web1, n1);
  assert.ok(web1.complaints.some((line) => line.includes('no space is left')));
});

/** Pauses between tries are a tenth of what they are. */
const hasty: Clock = { ...systemClock, after: (delayMs, call) => systemClock.after(delayMs / 10, call) };

/** A voter that answers with what it likes; afterwards it is in order again. */
async function withForger(
  t: Parameters<typeof createLedgerFleet>[0],
  answer: (stream: MessageStream, fleet: LedgerFleet, turn: number) => Promise<void>,
  turns = 2,
) {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  await fleet.fill(3);
  await n1.stop();
  const { mesh } = n1;
  const served = Promise.withResolvers<void>();
  let calls = 0;
  mesh.handle(entryPullProtocol, async (stream) => {
    await stream.receive();
    await answer(stream, fleet, calls).catch(() => undefined);
    calls += 1;
    if (calls >= turns) served.resolve();
    await stream.close();
  });
  await mesh.start();
  const web1 = await fleet.add('web1', 'voters', { clock: hasty });
  await served.promise;
  assert.equal(web1.ledger.state().index, 1, 'nothing forged was applied');
  assert.deepEqual(await web1.store.range({ gte: 'entry/', lt: 'entry0' }), [], 'nothing forged was stored');
  await mesh.stop();
  await n1.start();
  await fleet.fill(1);
  await caughtUp(web1, n1);
  return web1;
}

describe('createLedger() with a voter that lies', { concurrency: 8 }, () => {
  /** A page of what the fleet committed, with a certificate that is in order. */
  function goodPage({ consensus, genesis }: LedgerFleet) {
    const { fleet, state } = readGenesis(genesis);
    const last = consensus.entries.at(-1) ?? assert.fail();
    const { signatures } = signedBy(state.voterSet, fleet, last);
    const entries = consensus.entries.map(({ data }) => data);
    const pairs = signatures.map(({ raftId, signature }) => [raftId, signature] as const);
    return { kind: 'entries', term: 1, entries, signatures: pairs };
  }

  test('createLedger() takes the page that the others bend', async (t) => {
    const fleet = await createLedgerFleet(t);
    const n1 = await fleet.add('n1', 'consensus');
    await fleet.fill(3);
    const served = Promise.withResolvers<void>();
    n1.mesh.handle(entryPullProtocol, async (stream) => {
      await stream.receive();
      await stream.send(encode(goodPage(fleet)));
      await served.promise;
    });
    const web1 = await fleet.add('web1', 'voters');
    await caughtUp(web1, n1);
    served.resolve();
  });

  test('createLedger() never applies entries that are not certified, and says who served them', async (t) => {
    const web1 = await withForger(t, async (stream, fleet) => {
      const { signatures: _none, ...bare } = goodPage(fleet);
      await stream.send(encode(bare));
      await stream.send(encode({ ...bare, signatures: [[1, new Uint8Array(64)]] }));
    });
    assert.ok(web1.complaints.some((line) => line.includes(peerIdOf('n1')) && line.includes('does not hold')));
  });

  test('createLedger() never applies entries that do not chain to its own', async (t) => {
    await withForger(t, async (stream, fleet) => {
      const page = goodPage(fleet);
      await stream.send(encode({ ...page, entries: page.entries.slice(1) }));
    });
  });

  test('createLedger() never applies entries whose content was changed on the way', async (t) => {
    await withForger(t, async (stream, fleet) => {
      const page = goodPage(fleet);
      const [first, ...rest] = page.entries;
      const data = Uint8Array.from(first ?? []);
      data[data.length - 1] = (data[data.length - 1] ?? 0) ^ 1;
      await stream.send(encode({ ...page, entries: [data, ...rest] }));
    });
  });

  test('createLedger() never takes a configuration of nothing, or a checkpoint that nobody made', async (t) => {
    await withForger(
      t,
      async (stream, fleet, turn) => {
        const page = goodPage(fleet);
        const { fleet: id, state } = readGenesis(fleet.genesis);
        const data = new Uint8Array(1_000).fill(turn);
        const entry = encodeEntry({
          ...{ version: 1, kind: 'checkpoint-made', timeMs: 1, actor: 'controller' },
          body: { index: 2, stateHash: sha256Hex(data) },
        });
        const place = { index: 3, term: 1, type: 'normal' as const, data: entry };
        const chainHash = entryChainHash(hash('x'), place);
        const certificate = signedBy(state.voterSet, id, { index: 3, chainHash });
        const [signature] = certificate.signatures;
        const head = {
          kind: 'checkpoint',
          ...{ entry: { index: 3, term: 1, data: entry }, previous: hash('x'), bytes: data.byteLength },
        };
        const forged = { ...certificate, signatures: [{ ...signature, signature: new Uint8Array(64) }] };
        const answers: readonly object[] = [
          { ...page, endsWithConfiguration: true },
          { ...head, certificate: forged },
          { ...head, certificate, bytes: 2_000 },
          { ...head, certificate, previous: hash('y') },
          { kind: 'checkpoint-part', data },
          { ...head, certificate },
        ];
        await stream.send(encode(answers[turn % answers.length] ?? page));
        await stream.send(encode({ kind: 'checkpoint-part', data }));
      },
      6,
    );
  });

  test('createLedger() survives whatever a voter answers', async (t) => {
    const seed = Number(process.env.SEED ?? 42);
    t.diagnostic(`SEED=${seed}`);
    const random = seededRandom(seed);
    await withForger(t, async (stream, fleet) => {
      const good = encode(goodPage(fleet));
      for (let number = 0; number < 20; number += 1) {
        const bytes = Uint8Array.from(good.subarray(0, Math.floor(random() * good.length)));
        for (let flips = 0; flips < 3; flips += 1)
          bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
        await stream.send(bytes);
      }
    });
  });
});

test('serveEntries() survives whatever a member asks and refuses strangers to the chain', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  await fleet.fill(3);
  const mesh = fleet.network.join(peerIdOf('fuzz'));
  await mesh.start();
  t.after(() => mesh.stop());
  const seed = Number(process.env.SEED ?? 7);
  t.diagnostic(`SEED=${seed}`);
  const random = seededRandom(seed);
  const { chainHash, index } = n1.ledger.state();
  const bytesOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'));
  const good = { version: 1, from: index + 1, previous: bytesOf(chainHash) };
  for (let number = 0; number < 60; number += 1) {
    const stream = await mesh.open(n1.peer, entryPullProtocol, { signal: patient() });
    const bytes = Uint8Array.from(encode(good));
    bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
    await stream.send(random() < 0.2 ? new Uint8Array(2_000) : bytes.subarray(0, Math.ceil(random() * bytes.length)));
    await stream.close();
    await stream.receive({ signal: patient() }).catch(() => undefined);
    stream.abort(new Error('done'));
  }
  for (const [asked, code] of [
    [{ ...good, previous: bytesOf(hash('other')) }, 'chain-mismatch'],
    [{ ...good, from: 3, previous: bytesOf(hash('other')) }, 'chain-mismatch'],
    [{ ...good, from: 2, previous: bytesOf(hash('other')) }, 'chain-mismatch'],
  ] as const) {
    const stream = await mesh.open(n1.peer, entryPullProtocol, { signal: patient() });
    await stream.send(encode(asked));
    const answer = Buffer.from((await stream.receive({ signal: patient() })) ?? []);
    assert.ok(answer.includes(code), `${code}: ${answer}`);
    stream.abort(new Error('done'));
  }
  await fleet.fill(1);
  assert.equal(n1.ledger.state().index, 5);
});

test('serveEntries() lets go of members that have gone away', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  await fleet.fill(1);
  for (let number = 0; number < 12; number += 1) {
    const mesh = fleet.network.join(peerIdOf('come-and-go'));
    await mesh.start();
    const stream = await mesh.open(n1.peer, entryPullProtocol, { signal: patient() });
    const { chainHash, index } = n1.ledger.state();
    const previous = new Uint8Array(Buffer.from(chainHash, 'hex'));
    await stream.send(encode({ version: 1, from: index + 1, previous }));
    await fleet.fill(1);
    assert.ok(await stream.receive({ signal: patient() }));
    await mesh.stop();
  }
});
