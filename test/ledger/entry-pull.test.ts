// Members that follow voters: catching up, changing over, starting again, a full disk, and voters that lie.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { MessageStream } from '../../node/interfaces.ts';
import { encode, sha256Hex } from '../../protocols/codec.ts';
import { entryChainHash } from '../../protocols/consensus-record.ts';
import { entryPullProtocol } from '../../protocols/entry-pull.ts';
import { encodeEntry } from '../../protocols/ledger-entries.ts';
import { createLedgerFleet, diskFull, type LedgerFleet, type LedgerPeer, patient } from '../helpers/ledger-peers.ts';
import { hash, peerIdOf } from '../helpers/ledger-script.ts';
import { seededRandom } from '../helpers/random.ts';

async function caughtUp(member: LedgerPeer, voter: LedgerPeer): Promise<void> {
  const { index } = voter.ledger.state();
  await member.ledger.waitFor((state) => state.index >= index, patient());
  assert.equal(member.ledger.stateHash(), voter.ledger.stateHash());
}

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

test('createLedger() takes a snapshot where the voters have let go of what it lacks', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  const web1 = await fleet.add('web1', 'voters');
  await fleet.fill(3);
  await caughtUp(web1, n1);
  await web1.stop();
  await fleet.fill(1_200);
  await fleet.checkpoint();
  await fleet.fill(1_100);
  await fleet.checkpoint();
  assert.ok(fleet.consensus.firstIndex() > 5);
  await web1.start();
  await caughtUp(web1, n1);
  await fleet.fill(1);
  await caughtUp(web1, n1);
  await web1.stop();
  await web1.start();
  assert.ok(web1.ledger.state().index >= 2_303);
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
  await web1.ledger
    .waitFor(() => web1.complaints.some((line) => line.includes('disk-full')), AbortSignal.timeout(1))
    .catch(() => undefined);
  web1.store.onBatch = () => undefined;
  await caughtUp(web1, n1);
  assert.ok(web1.complaints.some((line) => line.includes('no space is left')));
});

/** A voter that answers with what it likes. */
async function withForger(
  t: Parameters<typeof createLedgerFleet>[0],
  answer: (stream: MessageStream, fleet: LedgerFleet) => Promise<void>,
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
    await answer(stream, fleet).catch(() => undefined);
    calls += 1;
    if (calls >= 2) served.resolve();
    await stream.close();
  });
  await mesh.start();
  const web1 = await fleet.add('web1', 'voters');
  await served.promise;
  assert.equal(web1.ledger.state().index, 1, 'nothing forged was applied');
  await mesh.stop();
  await n1.start();
  await fleet.fill(1);
  await caughtUp(web1, n1);
}

describe('createLedger() with a voter that lies', { concurrency: 8 }, () => {
  test('createLedger() never applies entries that do not chain to its own', async (t) => {
    const entry = { version: 1, kind: 'draft-discarded', timeMs: 1, actor: 'root@n1', body: {} } as const;
    await withForger(t, async (stream) => {
      const forged = { index: 2, term: 1, type: 'normal' as const, data: encodeEntry(entry) };
      await stream.send(
        encode({ kind: 'entries', entries: [{ ...forged, chainHash: entryChainHash(hash('x'), forged) }] }),
      );
    });
  });

  test('createLedger() never applies entries whose content was changed on the way', async (t) => {
    await withForger(t, async (stream, fleet) => {
      const [first, ...rest] = fleet.consensus.entries;
      assert.ok(first);
      const data = Uint8Array.from(first.data);
      data[data.length - 1] = (data[data.length - 1] ?? 0) ^ 1;
      await stream.send(encode({ kind: 'entries', entries: [{ ...first, data }, ...rest] }));
    });
  });

  test('createLedger() never applies entries with a gap, twice, or a configuration of nothing', async (t) => {
    let turn = 0;
    await withForger(t, async (stream, { consensus: { entries } }) => {
      turn += 1;
      const first = entries[0] ?? assert.fail();
      const configuration = { ...first, type: 'configuration' as const };
      const chainHash = entryChainHash(entries[0]?.chainHash ?? '', configuration);
      const pages = [entries.slice(1), [{ ...configuration, chainHash }], [entries[2]]];
      await stream.send(encode({ kind: 'entries', entries: pages[turn % pages.length] }));
    });
  });

  test('createLedger() never takes a snapshot of another fleet, hash, length or place', async (t) => {
    let turn = 0;
    await withForger(t, async (stream) => {
      turn += 1;
      const data = new Uint8Array(1_000).fill(turn);
      const head = {
        kind: 'snapshot',
        index: 50,
        term: 1,
        chainHash: hash('x'),
        bytes: data.byteLength,
        hash: sha256Hex(data),
      };
      const heads = [head, { ...head, hash: hash('other') }, { ...head, bytes: 2_000 }, { ...head, index: 1 }];
      await stream.send(encode(heads[turn % heads.length]));
      await stream.send(encode({ kind: 'snapshot-part', data }));
    });
  });

  test('createLedger() survives whatever a voter answers', async (t) => {
    const seed = Number(process.env.SEED ?? 42);
    t.diagnostic(`SEED=${seed}`);
    const random = seededRandom(seed);
    await withForger(t, async (stream, fleet) => {
      const good = encode({ kind: 'entries', entries: fleet.consensus.entries });
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
  const { fleet: id, chainHash, index } = n1.ledger.state();
  const good = { version: 1, fleet: id, from: index + 1, previous: chainHash };
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
    [{ ...good, fleet: hash('other') }, 'wrong-fleet'],
    [{ ...good, previous: hash('other') }, 'chain-mismatch'],
    [{ ...good, from: 3, previous: hash('other') }, 'chain-mismatch'],
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
    const { fleet: id, chainHash, index } = n1.ledger.state();
    await stream.send(encode({ version: 1, fleet: id, from: index + 1, previous: chainHash }));
    await fleet.fill(1);
    assert.ok(await stream.receive({ signal: patient() }));
    await mesh.stop();
  }
});

test('createLedger() lets members serve others from their own records', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  const web1 = await fleet.add('web1', 'voters');
  await fleet.fill(5);
  await caughtUp(web1, n1);
  const mesh = fleet.network.join(peerIdOf('web2'));
  await mesh.start();
  t.after(() => mesh.stop());
  const stream = await mesh.open(web1.peer, entryPullProtocol, { signal: patient() });
  const { entries } = fleet.consensus;
  await stream.send(encode({ version: 1, fleet: web1.ledger.state().fleet, from: 4, previous: entries[1]?.chainHash }));
  const answer = Buffer.from((await stream.receive({ signal: patient() })) ?? []);
  assert.ok(answer.includes(entries[2]?.chainHash ?? '?') && answer.includes(entries[4]?.chainHash ?? '?'));
  stream.abort(new Error('done'));
});
