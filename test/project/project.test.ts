// The project room against real git: commits as pure functions of intents, work folders, and packs between peers.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { createLogger, createProcessRunner } from '../../node/host/index.ts';
import type { MessageStream } from '../../node/interfaces.ts';
import { createProject, type Project } from '../../node/project/index.ts';
import { sha256Hex } from '../../protocols/codec.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { CommitIntent } from '../../protocols/ledger-state.ts';

const logger = createLogger({ level: 'silent' });
const signal = AbortSignal.timeout(60_000);
const identity = ['-c', 'user.name=Person', '-c', 'user.email=person@example.invalid'];

/** Peers in one process that reach each other's handlers directly, one whole message at a time. */
function createPairedMesh() {
  const handlers = new Map<string, (stream: MessageStream) => Promise<void>>();
  const member = (name: string) => ({
    handle(protocol: string, handler: (stream: MessageStream) => Promise<void>) {
      handlers.set(`${name} ${protocol}`, handler);
    },
    async open(peer: string, protocol: string): Promise<MessageStream> {
      const handler = handlers.get(`${peer} ${protocol}`);
      if (!handler) throw new ParleyError('peer-unreachable', `no peer '${peer}'`, { retryable: true });
      const [near, far] = createStreamPair();
      void handler(far);
      return near;
    },
  });
  return { member };
}

function createStreamPair(): [MessageStream, MessageStream] {
  const queues = [createQueue(), createQueue()] as const;
  const end = (own: number): MessageStream => ({
    peer: `peer${1 - own}`,
    send: async (message) => queues[1 - own]?.push(message),
    receive: async () => queues[own]?.shift(),
    close: async () => queues[1 - own]?.push(undefined),
    abort: () => queues[1 - own]?.push(undefined),
  });
  return [end(0), end(1)];
}

function createQueue() {
  const items: (Uint8Array | undefined)[] = [];
  const waiting: ((item: Uint8Array | undefined) => void)[] = [];
  return {
    push(item: Uint8Array | undefined) {
      const next = waiting.shift();
      if (next) next(item);
      else items.push(item);
    },
    shift(): Promise<Uint8Array | undefined> {
      if (items.length > 0) return Promise.resolve(items.shift());
      return new Promise((resolve) => waiting.push(resolve));
    },
  };
}

async function createFixture(context: TestContext) {
  const folder = await mkdtemp(join(tmpdir(), 'parley-project-'));
  context.after(() => rm(folder, { recursive: true, force: true }));
  const blobs = new Map<string, Uint8Array>();
  const mesh = createPairedMesh();
  const names: string[] = [];
  const createPeer = async (name: string): Promise<Project> => {
    names.push(name);
    const project = createProject({ repositoryFolder: join(folder, `${name}.git`) })({
      runner: createProcessRunner({ logger }),
      mesh: mesh.member(name),
      logger,
      fetchBlob: async (hash) => blobs.get(hash) ?? assert.fail(`blob ${hash} is not there`),
      holders: () => names.filter((other) => other !== name),
    });
    await project.open();
    return project;
  };
  const workFolder = join(folder, 'work');
  await mkdir(workFolder);
  git(workFolder, 'init', '--quiet', '--initial-branch=main');
  const putBlob = (bytes: Uint8Array): string => {
    const hash = sha256Hex(bytes);
    blobs.set(hash, bytes);
    return hash;
  };
  return { folder, workFolder, createPeer, putBlob, blobs };
}

function git(folder: string, ...gitArguments: string[]): string {
  return execFileSync('git', [...identity, '-C', folder, ...gitArguments], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  }).trim();
}

function intentOf(parent: string | null, tree: string, pack: string, message = 'a change'): CommitIntent {
  return { parent, tree, pack, message, author: 'alice', timeMs: 1_700_000_000_123 };
}

async function stage(project: Project, workFolder: string, head: string | null) {
  const change = await project.workFolders.read(workFolder, { head, draft: null });
  assert.equal(change.kind, 'changed');
  if (change.kind !== 'changed') throw new Error('unreachable');
  return change;
}

async function commitFiles(
  project: Project,
  putBlob: (bytes: Uint8Array) => string,
  workFolder: string,
  head: string | null,
) {
  const change = await stage(project, workFolder, head);
  const intent = intentOf(head, change.tree, putBlob(change.pack));
  const revision = await project.executeCommit(intent, { signal });
  await project.workFolders.write(workFolder, { head: revision, from: change.tree, tree: change.tree, pack: null });
  return { intent, revision };
}

describe('project', () => {
  test('executeCommit() gives the same commit on every peer and when it is done again', async (context) => {
    const { workFolder, createPeer, putBlob } = await createFixture(context);
    const [first, second] = [await createPeer('a'), await createPeer('b')];
    await writeFile(join(workFolder, 'flake.nix'), '{ outputs = _: { }; }\n');
    const { intent, revision } = await commitFiles(first, putBlob, workFolder, null);
    assert.equal(await second.executeCommit(intent, { signal }), revision);
    assert.equal(await first.executeCommit(intent, { signal }), revision);
    assert.equal(await first.head(), revision);
    assert.equal(git(workFolder, 'rev-parse', 'HEAD'), revision);
    assert.equal(git(workFolder, 'status', '--porcelain'), '');
    const [record] = await second.history(5);
    assert.deepEqual(record, { revision, author: 'alice', atMs: 1_700_000_000_000, message: 'a change' });
  });

  test('executeCommit() refuses an intent whose parent is no longer the head', async (context) => {
    const { workFolder, createPeer, putBlob } = await createFixture(context);
    const project = await createPeer('a');
    await writeFile(join(workFolder, 'one'), '1');
    const { revision, intent } = await commitFiles(project, putBlob, workFolder, null);
    await writeFile(join(workFolder, 'two'), '2');
    await commitFiles(project, putBlob, workFolder, revision);
    const late = { ...intent, parent: revision, message: 'too late' };
    await assert.rejects(project.executeCommit(late, { signal }), { code: 'head-moved' });
    assert.equal(await project.executeCommit(intent, { signal }), revision, 'a redo of a past commit is no move');
  });

  test('executeCommit() refuses a damaged pack and leaves the head alone', async (context) => {
    const { workFolder, createPeer, putBlob } = await createFixture(context);
    const project = await createPeer('a');
    await writeFile(join(workFolder, 'one'), '1');
    const change = await stage(project, workFolder, null);
    const damaged = Uint8Array.from(change.pack);
    damaged[damaged.length - 1] = (damaged.at(-1) ?? 0) ^ 1;
    await assert.rejects(project.executeCommit(intentOf(null, change.tree, putBlob(damaged)), { signal }), {
      code: 'pack-damaged',
    });
    assert.equal(await project.head(), null);
  });

  test('ensureRevision() gets a missing history from another holder', async (context) => {
    const { workFolder, createPeer, putBlob } = await createFixture(context);
    const first = await createPeer('a');
    let head: string | null = null;
    for (const name of ['one', 'two', 'three']) {
      await writeFile(join(workFolder, name), name.repeat(200_000));
      head = (await commitFiles(first, putBlob, workFolder, head)).revision;
    }
    const late = await createPeer('b');
    assert.ok(head);
    await late.ensureRevision(head, { signal });
    assert.equal(await late.head(), head);
    assert.equal((await late.history(10)).length, 3);
    await assert.rejects(late.ensureRevision('0123456789abcdef0123456789abcdef01234567', { signal }), {
      code: 'revision-unknown',
    });
  });

  test('workFolders.read() tells unchanged, changed and reverted apart and leaves the folder as it was', async (context) => {
    const { workFolder, createPeer, putBlob } = await createFixture(context);
    const project = await createPeer('a');
    await writeFile(join(workFolder, 'one'), '1');
    await writeFile(join(workFolder, '.gitignore'), 'secret\n');
    await writeFile(join(workFolder, 'secret'), 'not for git');
    const { revision: head } = await commitFiles(project, putBlob, workFolder, null);
    assert.equal((await project.workFolders.read(workFolder, { head, draft: null })).kind, 'unchanged');
    await writeFile(join(workFolder, 'one'), '1 changed');
    await writeFile(join(workFolder, 'new'), 'untracked');
    const change = await stage(project, workFolder, head);
    assert.deepEqual(change.files, [
      { path: 'new', change: 'added' },
      { path: 'one', change: 'modified' },
    ]);
    assert.equal(git(workFolder, 'diff', '--cached', '--name-only'), '', 'the index of the operator is untouched');
    git(workFolder, 'checkout', '--', 'one');
    await rm(join(workFolder, 'new'));
    const draft = { tree: change.tree, actor: 'alice' };
    assert.equal((await project.workFolders.read(workFolder, { head, draft })).kind, 'reverted');
  });

  test('workFolders.read() refuses to bury a draft that the folder never saw', async (context) => {
    const { workFolder, createPeer, putBlob } = await createFixture(context);
    const project = await createPeer('a');
    await writeFile(join(workFolder, 'one'), '1');
    const { revision: head } = await commitFiles(project, putBlob, workFolder, null);
    await writeFile(join(workFolder, 'one'), 'mine');
    const draft = { tree: '1234567890123456789012345678901234567890', actor: 'bob' };
    await assert.rejects(project.workFolders.read(workFolder, { head, draft }), { code: 'draft-elsewhere' });
  });

  test('workFolders.read() lets a clean folder follow the head and refuses one with changes on an old head', async (context) => {
    const { folder, workFolder, createPeer, putBlob } = await createFixture(context);
    const project = await createPeer('a');
    await writeFile(join(workFolder, 'one'), '1');
    const { revision: first } = await commitFiles(project, putBlob, workFolder, null);
    const other = join(folder, 'other');
    const dirty = join(folder, 'dirty');
    for (const clone of [other, dirty]) execFileSync('git', ['clone', '--quiet', workFolder, clone]);
    await writeFile(join(workFolder, 'one'), '2');
    const { revision: second } = await commitFiles(project, putBlob, workFolder, first);
    assert.deepEqual(await project.workFolders.read(other, { head: second, draft: null }), {
      ...{ kind: 'unchanged', tree: git(other, 'rev-parse', `${second}^{tree}`) },
    });
    assert.equal(await readFile(join(other, 'one'), 'utf8'), '2');
    assert.equal(git(other, 'status', '--porcelain'), '');
    await writeFile(join(dirty, 'one'), 'mine');
    await assert.rejects(project.workFolders.read(dirty, { head: second, draft: null }), { code: 'checkout-behind' });
    assert.equal(await readFile(join(dirty, 'one'), 'utf8'), 'mine');
  });

  test('workFolders.write() brings in a draft and keeps files that the draft does not touch', async (context) => {
    const { folder, workFolder, createPeer, putBlob } = await createFixture(context);
    const project = await createPeer('a');
    await writeFile(join(workFolder, 'one'), '1');
    await writeFile(join(workFolder, 'flake.lock'), 'old');
    const { revision: head } = await commitFiles(project, putBlob, workFolder, null);
    await writeFile(join(workFolder, 'one'), 'mine');
    const checkout = join(folder, 'checkout');
    await mkdir(checkout);
    const staged = await stage(project, workFolder, head);
    await project.ensurePack(putBlob(staged.pack), { signal });
    await project.checkout(staged.tree, checkout);
    await writeFile(join(checkout, 'flake.lock'), 'new');
    const updated = await project.treeOf(checkout, head);
    await project.workFolders.write(workFolder, {
      head: null,
      from: staged.tree,
      tree: updated.tree,
      pack: updated.pack,
    });
    assert.equal(await readFile(join(workFolder, 'flake.lock'), 'utf8'), 'new');
    assert.equal(await readFile(join(workFolder, 'one'), 'utf8'), 'mine');
    assert.equal(git(workFolder, 'rev-parse', 'HEAD'), head);
    assert.match(await project.patch(head, updated.tree), /-old[\s\S]*\+new/);
  });

  test('workFolders.write() keeps edits since the reading, and refuses where it would overwrite them', async (context) => {
    const { folder, workFolder, createPeer, putBlob } = await createFixture(context);
    const project = await createPeer('a');
    for (const name of ['one', 'two', 'flake.lock']) await writeFile(join(workFolder, name), 'old');
    const { revision: head } = await commitFiles(project, putBlob, workFolder, null);
    const { tree: from } = await project.workFolders.read(workFolder, { head, draft: null });
    const checkout = join(folder, 'checkout');
    await mkdir(checkout);
    await project.checkout(head, checkout);
    await writeFile(join(checkout, 'flake.lock'), 'new');
    await writeFile(join(checkout, 'added'), 'theirs');
    const { tree, pack } = await project.treeOf(checkout, head);
    const write = () => project.workFolders.write(workFolder, { head: null, from, tree, pack });

    await writeFile(join(workFolder, 'added'), 'mine');
    await writeFile(join(workFolder, 'two'), 'mine');
    git(workFolder, 'add', 'two');
    const before = git(workFolder, 'status', '--porcelain');
    await assert.rejects(write(), { code: 'folder-changed', message: /added/ });
    await rm(join(workFolder, 'added'));
    await writeFile(join(workFolder, 'flake.lock'), 'mine');
    await assert.rejects(write(), { code: 'folder-changed', message: /flake\.lock/ });
    assert.equal(await readFile(join(workFolder, 'flake.lock'), 'utf8'), 'mine');
    git(workFolder, 'checkout', '--', 'flake.lock');
    assert.equal(git(workFolder, 'status', '--porcelain'), before.replace(/\n.*added.*/, ''));

    await write();
    const texts = ['one', 'two', 'flake.lock', 'added'].map((name) => readFile(join(workFolder, name), 'utf8'));
    assert.deepEqual(await Promise.all(texts), ['old', 'mine', 'new', 'theirs']);
  });

  test('workFolders.read() refuses a folder that is no top of a checkout', async (context) => {
    const { folder, workFolder, createPeer } = await createFixture(context);
    const project = await createPeer('a');
    await mkdir(join(workFolder, 'inside'));
    for (const wrong of [folder, join(workFolder, 'inside')]) {
      await assert.rejects(project.workFolders.read(wrong, { head: null, draft: null }), { code: 'not-a-checkout' });
    }
  });
});
