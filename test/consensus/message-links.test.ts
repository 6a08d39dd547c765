// The streams that carry raft messages: kept for those who are in the configuration, closed for those who are not any more.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { makeMessage } from '../../node/consensus/core/index.ts';
import { MessageLinks } from '../../node/consensus/message-links.ts';
import { decode } from '../../protocols/codec.ts';
import { consensusFrameSchema, consensusProtocol } from '../../protocols/consensus-message.ts';
import { messageBytesMax } from '../../protocols/limits.ts';
import { createManualClock } from '../helpers/manual-clock.ts';
import { peerName, silentLogger, until } from './fleet.ts';
import { MemoryNetwork } from './memory-mesh.ts';

test('retain() closes the streams to all others after what is queued, and a later message opens a new one', async (t) => {
  const network = new MemoryNetwork();
  const heard: string[] = [];
  for (const raftId of [2, 3]) {
    network.mesh(peerName(raftId)).handle(consensusProtocol, async (stream) => {
      for (let bytes = await stream.receive(); bytes !== undefined; bytes = await stream.receive()) {
        const { messages } = decode(consensusFrameSchema, bytes, messageBytesMax);
        heard.push(...messages.map(({ type }) => `${raftId} hears ${type}`));
      }
      heard.push(`${raftId} is left`);
    });
  }
  const links = new MessageLinks(
    { raftId: 1, term: () => 1, onMessage: () => {}, onUnreachable: () => {} },
    {
      ...{ mesh: network.mesh(peerName(1)), clock: createManualClock(), logger: silentLogger },
      members: { peerOf: peerName, raftIdOf: () => undefined, voters: () => [1, 2, 3] },
    },
  );
  t.after(() => links.stop());
  const say = (to: number): void => links.send(makeMessage('heartbeat', to, { from: 1, term: 1 }));
  for (const to of [2, 3]) say(to);
  links.retain(new Set([1, 2]));
  await until(() => heard.includes('3 is left'));
  assert.deepEqual(heard.toSorted(), ['2 hears heartbeat', '3 hears heartbeat', '3 is left']);
  links.retain(new Set([1]));
  await until(() => heard.includes('2 is left'));
  say(3);
  await until(() => heard.filter((line) => line === '3 hears heartbeat').length === 2);
});
