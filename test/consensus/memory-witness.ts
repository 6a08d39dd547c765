// A witness in memory: what was written is durable at once; can be told to fail before or after it wrote.

export class MemoryWitness {
  record: Uint8Array | undefined;
  writes = 0;
  /** Thrown by write() while set; `late` means that the record has landed all the same. */
  failure: { readonly error: Error; readonly late: boolean } | undefined;

  async read(): Promise<Uint8Array | undefined> {
    return this.record?.slice();
  }

  async write(record: Uint8Array): Promise<void> {
    if (this.failure && !this.failure.late) throw this.failure.error;
    this.record = record.slice();
    this.writes += 1;
    if (this.failure) throw this.failure.error;
  }

  clone(): MemoryWitness {
    const copy = new MemoryWitness();
    copy.record = this.record?.slice();
    return copy;
  }
}
