// Owns the ways to make benches see less than they say, which their tests must notice.

import type { Mutant } from './mutant.ts';

const tests = ['test/scripts/bench-aims.test.ts'];

export const benchMutants: readonly Mutant[] = [
  {
    name: 'overlooks an event loop that waits in a system call',
    file: 'scripts/bench/loop-probe.ts',
    text: '  return Math.max(processorMs, wallMs - idleMs - waitsPerWait * waitedAtWorkMs);',
    replacement: '  return Math.max(processorMs, waitedAtWorkMs - waitedMs);',
    tests,
  },
  {
    name: 'takes busy neighbours for a loop that is held',
    file: 'scripts/bench/loop-probe.ts',
    text: 'wallMs - idleMs - waitsPerWait * waitedAtWorkMs',
    replacement: 'wallMs - idleMs - Math.min(0, waitedAtWorkMs)',
    tests,
  },
  {
    name: 'takes a figure that was not measured for a good one',
    file: 'scripts/bench/aims.ts',
    text: '    .filter((aim) => !isMet(aim))',
    replacement: '    .filter((aim) => !isMet(aim) && aim[1] >= 0)',
    tests,
  },
];
