// The runner of other projects' data files, judged: each way to alter a file that passes has to be reported as failed.

import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { parseDirectives } from '../../scripts/conformance/datadriven.ts';
import { runPorcupine } from '../../scripts/conformance/porcupine.ts';
import { runEtcdRaft } from '../../scripts/conformance.ts';

const interaction = `log-level none
----
ok

add-nodes 3 voters=(1,2,3) index=2 prevote=false
----
ok

campaign 1
----
ok

stabilize
----
ok

log-level debug
----
ok

propose 1 text
----
ok

process-ready 1
----
Ready MustSync=true:
Entries:
1/4 EntryNormal "text"
Messages:
1->2 MsgApp Term:1 Log:1/3 Commit:3 Entries:[1/4 EntryNormal "text"]
1->3 MsgApp Term:1 Log:1/3 Commit:3 Entries:[1/4 EntryNormal "text"]

deliver-msgs drop=(2,3)
----
dropped: 1->2 MsgApp Term:1 Log:1/3 Commit:3 Entries:[1/4 EntryNormal "text"]
dropped: 1->3 MsgApp Term:1 Log:1/3 Commit:3 Entries:[1/4 EntryNormal "text"]

propose-conf-change 1 transition=explicit
l4
----
ok

stabilize 1 2 log-level=none
----
ok

raft-log 2
----
1/3 EntryNormal ""
1/4 EntryNormal "text"
1/5 EntryConfChangeV2 l4

raft-state
----
1: StateLeader (Voter) Term:1 Lead:1
2: StateFollower (Voter) Term:1 Lead:1
3: StateFollower (Voter) Term:1 Lead:1

transfer-leadership from=1 to=2
----
INFO etcd's own words
`;

const confchange = `simple
v1
----
voters=(1)
1: StateProbe match=0 next=1

enter-joint autoleave=true
v2 l3
----
voters=(1 2)&&(1) learners=(3) autoleave
1: StateProbe match=0 next=1
2: StateProbe match=0 next=1
3: StateProbe match=0 next=1 learner

leave-joint
----
voters=(1 2) learners=(3)
1: StateProbe match=0 next=1
2: StateProbe match=0 next=1
3: StateProbe match=0 next=1 learner
`;

const quorum = `committed cfg=(1,2,3) idx=(5,_,7)
----
       idx
x>       5    (id=1)
?        0    (id=2)
xx>      7    (id=3)
5

committed cfg=(1) cfgj=zero idx=(4)
----
     idx
>      4    (id=1)
4

vote cfg=(1,2,3) cfgj=(3,4) votes=(y,n,y,_)
----
VotePending
`;

const folders = { interaction: 'testdata', confchange: 'confchange/testdata', quorum: 'quorum/testdata' } as const;
type Kind = keyof typeof folders;
const sound: Readonly<Record<Kind, string>> = { interaction, confchange, quorum };
const kinds = ['interaction', 'confchange', 'quorum'] as const;

let root = '';
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'parley-conformance-'));
  for (const folder of [...Object.values(folders), 'kv']) await mkdir(join(root, folder), { recursive: true });
});
after(() => rm(root, { recursive: true }));

async function tallyOf(kind: Kind, text: string) {
  await writeFile(join(root, folders[kind], 'case.txt'), text);
  return (await runEtcdRaft(root))[kind];
}

/** Changes one part of the directive that starts on a line; undefined where it has no such part. */
type Alteration = (lines: readonly string[], line: number) => string[] | undefined;

const withFirst =
  (change: (first: string) => string): Alteration =>
  (lines, line) => {
    const first = lines[line - 1] ?? '';
    const changed = change(first);
    return changed === first ? undefined : lines.with(line - 1, changed);
  };
const separatorAfter = (lines: readonly string[], line: number): number => lines.indexOf('----', line);
const refusals: Readonly<Record<string, Alteration>> = {
  'another command': withFirst((first) => first.replace(/^\S+/, 'bogus')),
  'one word more': withFirst((first) => `${first} 77`),
  'an unknown argument': withFirst((first) => `${first} bogus=1`),
  'an argument twice': withFirst((first) => first.replace(/ (\S+=\S+)$/, ' $1 $1')),
  'values of another type': withFirst((first) => first.replaceAll(/=\S+/g, '=maybe')),
  'one line of input more': (lines, line) => lines.toSpliced(separatorAfter(lines, line), 0, 'word'),
};
const differences: Readonly<Record<string, Alteration>> = {
  'no expected output': (lines, line) => {
    const start = separatorAfter(lines, line) + 1;
    const length = lines.slice(start).indexOf('');
    return lines.toSpliced(start, length);
  },
  'one line of output more': (lines, line) => lines.toSpliced(separatorAfter(lines, line) + 1, 0, 'ok'),
  'a blank at the end of its output': (lines, line) => {
    const start = separatorAfter(lines, line) + 1;
    return lines.with(start, `${lines[start]} `);
  },
};

test('runEtcdRaft() passes the texts that the alterations start from', async () => {
  for (const kind of kinds) {
    const { failures, files, passedFiles } = await tallyOf(kind, sound[kind]);
    assert.deepEqual({ failures, files, passedFiles }, { failures: [], files: 1, passedFiles: 1 });
  }
});

for (const kind of kinds) {
  test(`runEtcdRaft() fails each directive of kind ${kind} that is altered`, async () => {
    const text = sound[kind];
    const lines = text.split('\n');
    for (const { line, command } of parseDirectives(text)) {
      for (const [name, alter] of Object.entries({ ...refusals, ...differences })) {
        const altered = alter(lines, line);
        // What etcd logs may differ.
        if (altered === undefined || (name in differences && command === 'transfer-leadership')) continue;
        const { failures } = await tallyOf(kind, altered.join('\n'));
        const failure = failures.find((each) => each.line === line);
        assert.ok(failure, `${command} with ${name}`);
        if (name in refusals) assert.match(failure.actual, /^refused: /, `${command} with ${name}`);
      }
    }
  });
}

test("runEtcdRaft() fails an 'ok' beside lines of etcd's log, which etcd does not print", async () => {
  const { failures } = await tallyOf('interaction', `${interaction.trimEnd()}\nok\n`);
  assert.deepEqual(
    failures.map(({ expected, actual }) => ({ expected, actual })),
    [{ expected: 'ok', actual: '' }],
  );
});

test('runEtcdRaft() fails a file that is empty, has an unreadable line or no end', async () => {
  const texts = {
    'no directives': '# nothing else\n\n',
    "cannot read 'campaign (1)'": 'campaign (1)\n----\nok\n',
    "no ---- after 'campaign 1'": 'campaign 1\nok\n',
  };
  for (const [actual, text] of Object.entries(texts)) {
    const { failures, files, passedFiles } = await tallyOf('interaction', text);
    assert.deepEqual([failures.map((failure) => failure.actual), files, passedFiles], [[actual], 1, 0]);
  }
});

test('runPorcupine() counts a history that is empty or altered as wrong', async () => {
  const call = '{:process 1, :type :invoke, :f :put, :key "k", :value "v"}\n';
  const back = call.replace(':invoke', ':ok');
  const verdicts = {
    linearizable: call + back,
    'no history: it has no operations': '',
    'no history: process 1 has an answer without a call': back,
    'no history: process 1 calls while it waits': call + call,
    "no history: it has a line '{:process 1, :type :ok, :f :bogus}'": `${call}{:process 1, :type :ok, :f :bogus}\n`,
  };
  for (const [verdict, text] of Object.entries(verdicts)) {
    await writeFile(join(root, 'kv', 'case.txt'), text);
    await writeFile(join(root, 'verdicts.txt'), 'kv/case.txt linearizable\n');
    const { wrong } = await runPorcupine(root);
    const expected = { file: 'kv/case.txt', expected: 'linearizable', verdict };
    assert.deepEqual(wrong, verdict === 'linearizable' ? [] : [expected]);
  }
});
