/* Text of the corpus, shown as it is: nothing in it is HTML, moves other text, or stays invisible. */
"use strict";

(function () {
  // Characters that have no sign of their own, or would turn the order of the text around them.
  const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
  const DECODER = new TextDecoder("utf-8", { ignoreBOM: true });

  function sign(character) {
    const code = character.codePointAt(0);
    if (character === "\n") return "↵";
    if (character === "\t") return "⇥";
    // Not the symbols from U+2400 on, which few fonts have.
    return `‹U+${code.toString(16).toUpperCase().padStart(4, "0")}›`;
  }

  /** Text with a sign for what could not be seen, or would move other text. */
  report.visible = (text) => text.replace(UNSEEN, sign);

  /** How many bytes a character still lacks after `bytes`, where it lacked `missing` before. */
  function lacking(bytes, missing) {
    for (const byte of bytes) {
      if (missing > 0 && (byte & 0xc0) === 0x80) missing -= 1;
      else missing = byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : byte >= 0xc0 ? 1 : 0;
    }
    return missing;
  }

  /** Tokens that can be shown: a token, or several that only together make a character.
   *  Returns [{text, first, last}], with indices in `ids`. */
  report.pieces = function (vocabulary, ids) {
    const pieces = [];
    let open = null;
    const close = () => {
      if (open) pieces.push({ text: report.visible(DECODER.decode(new Uint8Array(open.bytes))), first: open.first, last: open.last });
      open = null;
    };
    ids.forEach((id, index) => {
      const token = vocabulary.tokens[id];
      if (typeof token === "string") {
        close();
        pieces.push({ text: report.visible(token), first: index, last: index });
        return;
      }
      open = open || { bytes: [], first: index, missing: 0 };
      open.bytes.push(...token);
      open.last = index;
      open.missing = lacking(token, open.missing);
      if (open.missing === 0) close();
    });
    close();
    return pieces;
  };

  /** Tokens as plain text, for titles and hover. */
  report.text = (vocabulary, ids) => report.pieces(vocabulary, ids).map((piece) => piece.text).join("");

  /** One token alone, as <bdi class="token">. */
  report.token = function (vocabulary, id) {
    const token = vocabulary.tokens[id];
    const bytes = Array.isArray(token) ? token.map((byte) => byte.toString(16).padStart(2, "0")).join(" ") : null;
    return report.element("bdi", { class: "token", title: bytes && `bytes ${bytes}` }, report.text(vocabulary, [id]));
  };

  /** Tokens in their order, as <span class="text" dir="auto">.
   *  values: [[index in ids, value]...], marked by |value| / max; at: the index of the peak. */
  report.tokens = function (vocabulary, ids, { values = [], max = 1, at = null } = {}) {
    const valueAt = new Map(values);
    const text = report.element("span", { class: "text", dir: "auto" });
    for (const piece of report.pieces(vocabulary, ids)) {
      const value = strongest(valueAt, piece);
      text.append(value === null ? piece.text : mark(piece, value, max, at));
    }
    return text;
  };

  function strongest(valueAt, piece) {
    let value = null;
    for (let index = piece.first; index <= piece.last; index += 1) {
      if (valueAt.has(index) && Math.abs(valueAt.get(index)) > Math.abs(value || 0)) value = valueAt.get(index);
    }
    return value;
  }

  function mark(piece, value, max, at) {
    const isPeak = at !== null && piece.first <= at && at <= piece.last;
    const names = ["fires", isPeak ? "peak" : "", value < 0 ? "negative" : ""].filter(Boolean).join(" ");
    const element = report.element("mark", { class: names, title: report.number(value) }, piece.text);
    element.style.setProperty("--strength", Math.min(1, Math.abs(value) / max).toFixed(3));
    return element;
  }

  /** Which features have a token like `query` among those they fire on or promote: an array of their indices.
   *  A part of a token, whatever its case; in double quotes a whole token, as it is written. */
  report.search = function (columns, vocabulary, query) {
    const matches = tokenTest(query);
    const found = Uint8Array.from(vocabulary.tokens, (token) => (typeof token === "string" && matches(token) ? 1 : 0));
    const isFound = (ids) => ids.some((id) => found[id]);
    const features = [];
    columns.top_tokens.forEach((ids, feature) => {
      if (isFound(ids) || (columns.promoted && isFound(columns.promoted[feature]))) features.push(feature);
    });
    return features;
  };

  function tokenTest(query) {
    const quoted = /^\s*"(.+)"\s*$/s.exec(query);
    if (quoted) return (token) => token === quoted[1];
    const part = query.trim().toLowerCase();
    return (token) => token.toLowerCase().includes(part);
  }
})();
