// A real peer in a process of its own for the bench of members: its parent asks it, over the channel between them, how long its
// event loop stood still. Nothing is measured while nobody asks.

import { loadConfig } from '../../node/config.ts';
import { createNode } from '../../node/create-node.ts';
import { probeLoop, type Stall } from './loop-probe.ts';

function beginProbe(): () => Stall {
  const stopping = new AbortController();
  const worst = probeLoop(stopping.signal);
  return () => {
    stopping.abort();
    return worst();
  };
}

const node = await createNode(await loadConfig({ state: process.argv[2] }));
let endProbe: (() => Stall) | undefined;
process.on('message', (word) => {
  if (word === 'watch') endProbe = beginProbe();
  else process.send?.(endProbe?.());
});
process.once('disconnect', async () => {
  await node.stop().catch(() => undefined);
  process.exit(0);
});
await node.start();
process.send?.({ started: true });
