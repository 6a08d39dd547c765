// Owns the device's words on disk: the slot's record and the report about it are one synced write, made before the step that
// they announce. After a failed write nothing is remembered: the record on disk counts.

import { decode, encode } from '../../protocols/codec.ts';
import {
  type SlotRecord,
  slotRecordBytesMax,
  slotRecordSchema,
  type Told,
  toldSchema,
  type Verdict,
} from '../../protocols/device-record.ts';
import type { OrderEnd, OrderState, ReportDraft } from '../../protocols/journal.ts';
import type { Order } from '../../protocols/ledger-state.ts';
import { textCharactersMax } from '../../protocols/limits.ts';
import { clipText, textSchema } from '../../protocols/primitives.ts';
import type { StoreOperation } from '../interfaces.ts';
import { acceptedSlot } from './device-core.ts';
import type { DeviceComponents } from './device-types.ts';

const slotKey = 'device/slot/system';
const toldKey = 'device/told';
const alarmKey = 'device/alarm';
const alarmBytesMax = 8 * textCharactersMax;
const toldBytesMax = 2 * 1024;

/** What is running and booted now. */
export interface Facts {
  readonly running: string | null;
  readonly booted: string | null;
}

export interface Slot {
  load(): Promise<SlotRecord | undefined>;
  accept(order: Order): Promise<SlotRecord>;
  /** Enters a state; on disk when it resolves. */
  advance(
    record: SlotRecord,
    state: OrderState,
    changes?: Pick<Partial<SlotRecord>, 'saved' | 'verdict'>,
  ): Promise<SlotRecord>;
  /** Reports how the order ended. */
  end(record: SlotRecord, verdict: Verdict): Promise<SlotRecord>;
  /** Reports the end once more if the journal has begun a new incarnation since. */
  repeatEnd(record: SlotRecord): Promise<SlotRecord>;
  /** Reports a boot, or a running system that is another than last reported. */
  tellMachine(): Promise<void>;
  /** Reports something that a person must look at; nothing is accepted from then on. */
  alarm(text: string): Promise<void>;
  isAlarmed(): Promise<boolean>;
}

export interface SlotComponents extends Pick<DeviceComponents, 'store' | 'journal' | 'machine'> {
  /** Reads the machine and remembers it for beats. */
  readonly readFacts: () => Promise<Facts>;
}

export function createSlot(components: SlotComponents): Slot {
  const { store, journal, machine, readFacts } = components;

  async function report(
    makeDraft: (facts: Facts) => ReportDraft,
    operations: readonly StoreOperation[],
  ): Promise<void> {
    const facts = await readFacts();
    const told: Told = {
      incarnation: journal.incarnation(),
      bootId: await machine.bootId(),
      running: facts.running,
    };
    await journal.append(makeDraft(facts), [...operations, { type: 'put', key: toldKey, value: encode(told) }]);
  }

  async function write(record: SlotRecord, makeDraft: (facts: Facts) => ReportDraft): Promise<SlotRecord> {
    await report(makeDraft, [{ type: 'put', key: slotKey, value: encode(record) }]);
    return record;
  }

  function reportEnd(record: SlotRecord, end: OrderEnd): Promise<SlotRecord> {
    const ended: SlotRecord = { ...record, state: 'cleaned', end, reportedIn: journal.incarnation() };
    return write(ended, (facts) => ({ kind: 'order-ended', ...facts, body: end }));
  }

  async function readAlarm(): Promise<string | undefined> {
    const bytes = await store.get(alarmKey);
    return bytes === undefined ? undefined : decode(textSchema, bytes, alarmBytesMax, alarmKey);
  }

  function reportAlarm(text: string, operations: readonly StoreOperation[]): Promise<void> {
    return report((facts) => ({ kind: 'device-alarmed', ...facts, body: { text } }), operations);
  }

  return {
    async load() {
      const bytes = await store.get(slotKey);
      return bytes === undefined ? undefined : decode(slotRecordSchema, bytes, slotRecordBytesMax, slotKey);
    },
    accept(order) {
      const { number, task, closure, manifest } = order;
      const body = { order: number, task, closure, manifest };
      return write(acceptedSlot(order), (facts) => ({ kind: 'order-accepted', ...facts, body }));
    },
    advance(record, state, changes = {}) {
      const body = { order: record.number, state };
      return write({ ...record, ...changes, state }, (facts) => ({ kind: 'order-step', ...facts, body }));
    },
    end(record, { outcome, reason, failedUnits }) {
      const simulated = record.saved?.kind === 'simulated';
      const text = reason === null ? null : clipText(reason);
      return reportEnd(record, { order: record.number, outcome, reason: text, failedUnits, simulated });
    },
    async repeatEnd(record) {
      if (record.end === null || record.reportedIn === journal.incarnation()) return record;
      return await reportEnd(record, record.end);
    },
    async tellMachine() {
      const bytes = await store.get(toldKey);
      const told = bytes === undefined ? undefined : decode(toldSchema, bytes, toldBytesMax, toldKey);
      const bootId = await machine.bootId();
      const { running } = await readFacts();
      if (told?.bootId !== bootId || told.incarnation !== journal.incarnation()) {
        await report((facts) => ({ kind: 'device-booted', ...facts, body: { bootId } }), []);
        const alarm = await readAlarm();
        if (alarm !== undefined) await reportAlarm(alarm, []);
      } else if (told.running !== running) {
        const body = { before: told.running };
        await report((facts) => ({ kind: 'running-changed', ...facts, body }), []);
      }
    },
    async alarm(text) {
      await reportAlarm(clipText(text), [{ type: 'put', key: alarmKey, value: encode(clipText(text)) }]);
    },
    isAlarmed: async () => (await readAlarm()) !== undefined,
  };
}
