// Owns writing plain data as deterministic CBOR in dag-cbor's form (RFC 8949 §4.2.1 with its older rule for keys: shorter ones
// first). Every entry, frame and hash passes here, on a voter several times for each commit, so it writes into one buffer
// that is used again and again. Reading, where bytes are not to be trusted, is the library's; a test holds the two together.

/** Reused from call to call; what is larger is made for its call and let go. */
const keptBytes = 64 * 1024;
/** Characters; longer texts are written by the runtime, whose call costs more than a short loop. */
const shortText = 80;
/** Fields of a record that are sorted without calling the runtime. */
const insertionMax = 24;

const majorUnsigned = 0 << 5;
const majorNegative = 1 << 5;
const majorBytes = 2 << 5;
const majorText = 3 << 5;
const majorArray = 4 << 5;
const majorMap = 5 << 5;
const wordFalse = 0xf4;
const wordTrue = 0xf5;
const wordNull = 0xf6;
const wordFloat64 = 0xfb;

const kept = Buffer.allocUnsafeSlow(keptBytes);
let buffer = kept;
let length = 0;

/** The bytes of plain data: null, booleans, finite numbers, text, bytes, arrays and objects, whose undefined fields are left out. */
export function encodeCbor(value: unknown): Uint8Array {
  length = 0;
  try {
    writeValue(value);
    const isRoomy = buffer === kept || length < buffer.byteLength / 2;
    return isRoomy ? new Uint8Array(buffer.subarray(0, length)) : new Uint8Array(buffer.buffer, 0, length);
  } finally {
    buffer = kept;
  }
}

function writeValue(value: unknown): void {
  if (typeof value === 'string') writeText(value);
  else if (typeof value === 'number') writeNumber(value);
  else if (typeof value === 'boolean') writeByte(value ? wordTrue : wordFalse);
  else if (value === null) writeByte(wordNull);
  else if (typeof value !== 'object') throw new TypeError(`a value of type ${typeof value} cannot be encoded`);
  else if (value instanceof Uint8Array) writeBytes(value);
  else if (Array.isArray(value)) writeArray(value);
  else writeMap(value as Readonly<Record<string, unknown>>);
}

/** Makes room for so many bytes more. */
function reserve(count: number): void {
  if (length + count <= buffer.byteLength) return;
  const larger = Buffer.allocUnsafeSlow(Math.max(2 * buffer.byteLength, length + count + keptBytes));
  larger.set(buffer.subarray(0, length));
  buffer = larger;
}

function writeByte(byte: number): void {
  reserve(1);
  buffer[length] = byte;
  length += 1;
}

/** The head of an item: its major type with a number, in the fewest bytes. */
function writeHead(major: number, count: number): void {
  reserve(9);
  if (count < 24) {
    buffer[length] = major | count;
    length += 1;
  } else if (count < 0x100) {
    buffer[length] = major | 24;
    buffer[length + 1] = count;
    length += 2;
  } else if (count < 0x10000) {
    buffer[length] = major | 25;
    length = buffer.writeUInt16BE(count, length + 1);
  } else if (count < 0x100000000) {
    buffer[length] = major | 26;
    length = buffer.writeUInt32BE(count, length + 1);
  } else {
    buffer[length] = major | 27;
    buffer.writeUInt32BE(Math.floor(count / 0x100000000), length + 1);
    length = buffer.writeUInt32BE(count % 0x100000000, length + 5);
  }
}

function writeNumber(value: number): void {
  if (Number.isSafeInteger(value)) {
    if (value >= 0) writeHead(majorUnsigned, value);
    else writeHead(majorNegative, -1 - value);
    return;
  }
  if (!Number.isFinite(value)) throw new TypeError(`the number ${value} cannot be encoded`);
  writeByte(wordFloat64);
  reserve(8);
  length = buffer.writeDoubleBE(value, length);
}

function writeText(text: string): void {
  const start = length;
  if (text.length <= shortText) {
    writeHead(majorText, text.length);
    reserve(text.length);
    let at = 0;
    for (; at < text.length; at += 1) {
      const code = text.charCodeAt(at);
      if (code > 0x7f) break;
      buffer[length + at] = code;
    }
    if (at === text.length) {
      length += at;
      return;
    }
    length = start;
  }
  const byteLength = Buffer.byteLength(text);
  writeHead(majorText, byteLength);
  reserve(byteLength);
  length += buffer.write(text, length);
}

function writeBytes(bytes: Uint8Array): void {
  writeHead(majorBytes, bytes.byteLength);
  reserve(bytes.byteLength);
  buffer.set(bytes, length);
  length += bytes.byteLength;
}

function writeArray(items: readonly unknown[]): void {
  writeHead(majorArray, items.length);
  for (const item of items) writeValue(item);
}

function writeMap(fields: Readonly<Record<string, unknown>>): void {
  const keys = Object.keys(fields).filter((key) => fields[key] !== undefined);
  writeHead(majorMap, keys.length);
  for (const key of keys.some(isBeyondAscii) ? keys.sort(byEncoding) : sortAscii(keys)) {
    writeText(key);
    writeValue(fields[key]);
  }
}

/** Shorter ones first, then by their letters. Most maps are records of a few fields. */
function sortAscii(keys: string[]): string[] {
  if (keys.length > insertionMax) return keys.sort((a, b) => (isBefore(a, b) ? -1 : 1));
  for (let end = 1; end < keys.length; end += 1) {
    const key = keys[end] ?? '';
    let at = end;
    for (; at > 0 && isBefore(key, keys[at - 1] ?? ''); at -= 1) keys[at] = keys[at - 1] ?? '';
    keys[at] = key;
  }
  return keys;
}

const isBefore = (a: string, b: string): boolean => (a.length === b.length ? a < b : a.length < b.length);
const isBeyondAscii = (text: string): boolean => {
  for (let at = 0; at < text.length; at += 1) if (text.charCodeAt(at) > 0x7f) return true;
  return false;
};
const byEncoding = (a: string, b: string): number =>
  Buffer.byteLength(a) - Buffer.byteLength(b) || Buffer.compare(Buffer.from(a), Buffer.from(b));
