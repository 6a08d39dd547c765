// Owns the notices that appear in a console while it is open: follows them on the attached peer, each once, across peers
// that die, and does not repeat those from before the console.

import { setTimeout as wait } from 'node:timers/promises';
import { check } from '../protocols/codec.ts';
import type { Notice } from '../protocols/ledger-state.ts';
import { noticesViewSchema } from '../protocols/views.ts';
import type { Attachment } from './attachment.ts';

const pauseMs = 500;

/** Calls `onNotice` for each new notice until the signal aborts. Trouble with peers is waited out silently: commands report it. */
export async function followNotices(
  attachment: Attachment,
  onNotice: (notice: Notice) => void,
  signal: AbortSignal,
): Promise<void> {
  let after: number | undefined;
  for (let round = 0; !signal.aborted; round += 1) {
    const request = {
      version: 1 as const,
      id: `notices-${process.pid}-${round}`,
      command: { name: 'notices' as const, after: after ?? 0, follow: after !== undefined },
      follow: after !== undefined,
    };
    try {
      for await (const event of attachment.run(request, { signal })) {
        if (event.kind !== 'view') continue;
        const { notices } = check(noticesViewSchema, event.data, 'notices');
        if (after !== undefined) for (const notice of notices) if (notice.number > after) onNotice(notice);
        after = Math.max(after ?? 0, ...notices.map(({ number }) => number));
      }
    } catch {
      // the attachment gave up for now
    }
    await wait(pauseMs, undefined, { signal }).catch(() => {});
  }
}
