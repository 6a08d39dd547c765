// A real peer in a process of its own for the bench of members: its parent asks it, over the channel between them, how long its
// event loop stood still. Nothing is measured while nobody asks.

import { monitorEventLoopDelay } from 'node:perf_hooks';
import { loadConfig } from '../../node/config.ts';
import { createNode } from '../../node/create-node.ts';

const nanosecondsPerMs = 1e6;

const node = await createNode(await loadConfig({ state: process.argv[2] }));
const delay = monitorEventLoopDelay({ resolution: 10 });
process.on('message', (word) => {
  if (word === 'watch') {
    delay.reset();
    delay.enable();
  } else {
    delay.disable();
    process.send?.({ stallMs: delay.max / nanosecondsPerMs });
  }
});
process.once('disconnect', async () => {
  await node.stop().catch(() => undefined);
  process.exit(0);
});
await node.start();
process.send?.({ started: true });
