//   node scripts/bench/ledger.ts [--json] [--quick]
// Measures how fast voters commit: entries per second and the median time of one, with 1, 3 and 5 voters and with 1 and 64
// proposals at a time, beside bare synced LevelDB batches of the same run. Each voter is a process with its own LevelDB and
// witness file, over libp2p on loopback; it certifies what it commits, and the state machine only counts. Aims: one voter
// 2,000/s and 1 ms, three with 64 5,000/s; ends with 1 where one is missed (aims.ts).

import { readArguments, round, tell } from '../lib/tool.ts';
import { benchOptions, type LedgerFigures, missedLedgerAims, printJudged } from './aims.ts';
import { VoterGroup } from './voter-group.ts';
import type { Rate } from './voter-process.ts';

/** Caches and the just-in-time compiler settle; then figures count. */
const warmUpMs = 2_000;
const isQuick = readArguments(import.meta.filename, benchOptions).values.quick;
const measureMs = isQuick ? 300 : 4_000;
const voterCounts = [1, 3, 5];
const clientCounts = [1, 64];

const figures: Record<string, LedgerFigures[string] & Readonly<Record<string, number>>> = {};
for (const voters of voterCounts) {
  const group = await VoterGroup.start(voters);
  try {
    const bare = await group.ask<Rate>(group.leader, { do: 'write', durationMs: measureMs / 2 });
    for (const clients of clientCounts) {
      tell(`${voters} voters, ${clients} proposals at a time`);
      await group.ask(group.leader, { do: 'propose', clients, durationMs: Math.min(warmUpMs, measureMs) });
      const rate = await group.ask<Rate>(group.leader, { do: 'propose', clients, durationMs: measureMs });
      figures[`voters${voters}batch${clients}`] = {
        commitsPerSecond: Math.round(rate.perSecond),
        p50Ms: round(rate.p50Ms, 2),
        bareBatchesPerSecond: Math.round(bare.perSecond),
        ratio: round(rate.perSecond / bare.perSecond, 4),
      };
    }
  } finally {
    await group.stop();
  }
}
printJudged({ ...figures, certified: true }, missedLedgerAims(figures));
