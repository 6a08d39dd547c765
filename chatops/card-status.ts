// Owns the cards of the fleet as a whole: status and peers.

import type { PeerView, StatusView } from '../protocols/views.ts';
import { type CardContext, columnsMax } from './card-context.ts';
import { type Cell, outcomeTone, renderTable } from './paint.ts';
import { bytesText, clean, countText, cut, durationText, shortHash, shortPath, wrap } from './words.ts';

/** Controller, project and policy in a few lines, then one row for each peer, then what waits for people. */
export function renderStatus(view: StatusView, context: CardContext): string[] {
  const { paint } = context;
  return [
    ...heading(view, context),
    '',
    ...renderTable(
      [
        { title: 'peer', columnsMax: 16 },
        { title: 'site', columnsMax: 10 },
        { title: 'roles', columnsMax: 14 },
        { title: 'state', columnsMax: 14 },
        { title: 'runs', columnsMax: 8 },
        { title: 'commit', columnsMax: 8 },
        { title: 'target', columnsMax: 8 },
        { title: 'last', columnsMax: columnsMax },
      ],
      view.peers.map((peer) => statusRow(peer, context)),
      context.columns,
      paint,
    ),
    ...troubles(view, context),
    ...missingHosts(view, context),
    ...waiting(view, context),
    ...renderWarnings(view.warnings ?? [], context),
  ];
}

/** What each peer said about itself: when it was last seen, how far its ledger is, closure bytes by site. */
export function renderPeers(view: StatusView, context: CardContext): string[] {
  return [
    ...heading(view, context),
    ...view.peers.flatMap((peer) => [
      '',
      `${context.paint('strong', peer.name)}  site ${peer.site}, ${peer.roles.join(', ')}${peer.controller ? ', controller' : ''}`,
      `  ${presence(peer, context).text}; ledger up to entry ${peer.ledgerIndex ?? 'unknown'}; id ${peer.peer}`,
      `  runs ${peer.running ?? 'nothing that it reported'}`,
      ...(peer.booted !== null && peer.booted !== peer.running ? [`  booted ${peer.booted}`] : []),
      ...(peer.activity === null ? [] : [`  now: ${clean(peer.activity)}`]),
      ...Object.entries(peer.bytesBySite).map(
        ([site, { bytesIn, bytesOut }]) => `  site ${site}: ${bytesText(bytesIn)} in, ${bytesText(bytesOut)} out`,
      ),
    ]),
  ].map((line) => cut(line, context.columns + paintSlack));
}

/** A painted line is longer than what it shows. */
const paintSlack = 16;

function heading(view: StatusView, context: CardContext): string[] {
  const { paint } = context;
  const controller = view.controller === null ? paint('warn', 'none now') : paint('strong', view.controller);
  const draft = view.draftFiles === 0 ? 'no draft' : `draft of ${countText(view.draftFiles, 'file')}`;
  const head = view.head === null ? 'nothing committed' : `commit ${shortHash(view.head)}`;
  const policy = view.policyRevision === null ? 'no policy yet' : `policy ${shortHash(view.policyRevision)}`;
  const lines = [
    `controller ${controller}, term ${view.term}, entry ${view.ledgerIndex}, fleet ${shortHash(view.fleet)}`,
    `project: ${head}, ${draft}, ${policy}`,
  ];
  const stale = 'Not current: the controller could not be asked. This is what the answering peer last knew.';
  return view.current ? lines : [paint('warn', stale), ...lines];
}

function statusRow(peer: PeerView, context: CardContext): Cell[] {
  const roles = peer.roles.filter((role) => role !== 'member' || peer.roles.length === 1);
  return [
    { text: peer.name, tone: 'strong' },
    { text: peer.site },
    { text: peer.controller ? `${roles.join(',')}*` : roles.join(',') },
    presence(peer, context),
    { text: shortPath(peer.running) },
    { text: shortHash(peer.commit) },
    target(peer),
    last(peer),
  ];
}

/** Whether a peer is there, and since when not. */
export function presence(peer: Pick<PeerView, 'online' | 'lastSeenMs'>, context: CardContext): Cell {
  if (peer.online) return { text: 'online', tone: 'good' };
  if (peer.lastSeenMs === null) return { text: 'never seen', tone: 'dim' };
  return { text: `offline ${durationText(context.nowMs - peer.lastSeenMs)}`, tone: 'bad' };
}

function target(peer: PeerView): Cell {
  if (peer.desired === null) return { text: '-', tone: 'dim' };
  return peer.desired === peer.running
    ? { text: 'reached', tone: 'good' }
    : { text: shortPath(peer.desired), tone: 'warn' };
}

function last(peer: PeerView): Cell {
  if (peer.activity !== null) return { text: clean(peer.activity), tone: 'busy' };
  if (peer.alarmed) return { text: 'alarm', tone: 'bad' };
  if (peer.outcome === null) return { text: '-', tone: 'dim' };
  return { text: peer.outcome, tone: outcomeTone(peer.outcome) };
}

/** What somebody should do something about before it matters. */
export function renderWarnings(warnings: readonly string[], context: CardContext): string[] {
  if (warnings.length === 0) return [];
  const lines = warnings.flatMap((text) => wrap(`Warning: ${clean(text)}`, context.columns));
  return ['', ...lines.map((line) => context.paint('warn', line))];
}

/** Why hosts are not as ordered: too long for the table. */
function troubles(view: StatusView, context: CardContext): string[] {
  const lines = view.peers.flatMap(({ name, outcome, reason, alarmed }) => {
    if (alarmed) return wrap(`${name} accepts no orders: ${clean(reason ?? '')}`, context.columns, 2);
    if (outcome === null || outcome === 'succeeded' || reason === null) return [];
    return wrap(`${name} ${outcome}: ${clean(reason)}`, context.columns, 2);
  });
  return lines.length === 0 ? [] : ['', context.paint('strong', 'Trouble'), ...lines];
}

function missingHosts(view: StatusView, context: CardContext): string[] {
  if (view.hostsWithoutPeer.length === 0) return [];
  const text = `Hosts without a peer: ${view.hostsWithoutPeer.join(', ')} ('invite' lets one join)`;
  return ['', ...wrap(text, context.columns)];
}

function waiting(view: StatusView, context: CardContext): string[] {
  if (view.waiting.length === 0) return [];
  return [
    '',
    context.paint('strong', 'Waiting'),
    ...view.waiting.map(({ task, reason }) => cut(`  ${task}  ${reason.kind}: ${clean(reason.text)}`, context.columns)),
  ];
}
