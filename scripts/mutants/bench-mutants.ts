// Owns the ways to make benches and judges of other projects' data see less than they say, which their tests must notice.

import type { Mutant } from './mutant.ts';

const tests = ['test/scripts/bench-aims.test.ts'];
const alterations = ['test/consensus/conformance-alterations.test.ts'];

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
  {
    name: 'passes over arguments that no command has',
    file: 'scripts/conformance/grammar.ts',
    text: 'given.filter((argument) => argument.values.length > 0)',
    replacement: 'given.slice(0, 0)',
    tests: alterations,
  },
  {
    name: 'takes no output for the ok that stands for none',
    file: 'scripts/conformance/datadriven.ts',
    text: "output === '' && expected === directive.expected ? 'ok' : output",
    replacement: "output === '' && expected === 'ok' ? 'ok' : output",
    tests: alterations,
  },
  {
    name: 'counts a data file without directives as passed',
    file: 'scripts/conformance/datadriven.ts',
    text: "if (directives.length === 0) throw new MalformedText(1, 'no directives');",
    replacement: '',
    tests: alterations,
  },
  {
    name: 'judges what can be read of a history',
    file: 'scripts/conformance/porcupine.ts',
    text: 'if (operations.length === 0) throw',
    replacement: 'if (false as boolean) throw',
    tests: alterations,
  },
];
