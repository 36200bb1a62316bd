// The browser's side of answers.py: read a typed number, judge it, put a miss into words.
// TABLE (the units of quantities.py, "symbol,prefixes,base,size"), FACTORS, WORDS and NOUN come
// from Python.
const UNITS = { __proto__: null };                                       // symbol -> [base, size, prefixes]
for (const t of TABLE.split("|")) {
  const [s, kind, base = s, size = 1] = t.split(",");
  UNITS[s] = [base, +size, kind];
}
const UP = "kMGTPE", DOWN = "pnum";
const TEN = { p: -12, n: -9, u: -6, m: -3, k: 3, M: 6, G: 9, T: 12, P: 15, E: 18 };
const TWO = { Ki: 10, Mi: 20, Gi: 30, Ti: 40, Pi: 50 };
const prefixes = ([, , kind]) =>
  [...(kind & 1 ? UP : "") + (kind & 2 ? DOWN : ""), ...kind & 4 ? Object.keys(TWO) : []];

// "TB/s" -> [base, size, power of ten, power of two], or nothing
const unit = written => {
  const t = written.trim().replace(/[µμ]/g, "u");
  if (UNITS[t]) return [UNITS[t][0], UNITS[t][1], 0, 0];
  for (const s in UNITS) for (const p of prefixes(UNITS[s]))
    if (p + s == t) return [UNITS[s][0], UNITS[s][1], TEN[p] || 0, TWO[p] || 0];
};
const cases = t => Object.keys(UNITS).flatMap(s => ["", ...prefixes(UNITS[s])].map(p => p + s))
  .filter(u => u && u.toLowerCase() == t.trim().toLowerCase());

const plain = (v, digits = 6) => {
  const [m, e] = v.toExponential(digits - 1).split("e");
  return e > -5 && e < 6 ? "" + +v.toPrecision(digits) : +m + "e" + +e;
};
const scale = u => { const [, size, ten, two] = unit(u); return size * 10 ** ten * 2 ** two; };
const joined = (v, u) => plain(v) + (u && u != "%" ? " " : "") + u;
const wanted = u => u ? `this answer is in ${u}.` : "this answer is a plain number.";

const HUGE = t => `'${t.trim()}' is too large a number, or divides by zero.`;
// -> {v, base, bare}, or {error}
const read = (text, u) => {
  const fail = error => ({ error });
  let t = text.replace(/[\u00a0\u202f]/g, " ").replace(/−/g, "-").trim(), money, m, power = 1;
  const base = unit(u)[0];
  for (const [pattern, ours] of base ? WORDS : [...WORDS, [NOUN, ""]]) t = t.replace(new RegExp(pattern, "g"), ours);
  if (!t) return fail("Type a number first.");
  if (/e[+-]?\d{4}/i.test(t)) return fail(HUGE(text));
  if (m = /^(\d+(?:\.\d+)?)\s*(?:\^|\*\*)\s*([+-]?\d{1,4})([^\d.].*)?$/.exec(t)) {
    power = m[1] ** m[2];
    t = "1" + (m[3] || "");
  } else if (m = /^(.*?\d\.?)\s*[x*×·]\s*10\s*(?:\^|\*\*)\s*([+-]?\d{1,3})([^\d.].*)?$/.exec(t))
    t = m[1] + "e" + +m[2] + (m[3] || "");
  if ((m = /^([+-]?[0-9]+),([0-9]+)(?![0-9,.])(.*)$/.exec(t)) && !/^[+-]?[1-9][0-9]{0,2},[0-9]{3}$/.test(m[1] + "," + m[2]))
    return fail(`'${text.trim()}' has a comma; write ${m[1]}.${m[2]}${m[3]}: a point, not a comma.`);
  if (t[0] == "$") { money = 1; t = t.slice(1); }
  m = /^\s*([+-]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|\.)?)(?:[eE]([+-]?\d+))?(?:\s*\/\s*(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?))?\s*([^\d\s].*?)?\s*$/.exec(t);
  if (!m || !/\d/.test(m[1])) return fail(`I cannot read '${text.trim()}' as a number with a unit, such as 3.35 TB/s, 3.35e12 or 1/3.`);
  const symbol = (money ? "USD" : "") + (m[4] || ""), have = unit(symbol);
  if (!have) {
    const near = cases(symbol);
    return fail(`I do not know the unit '${symbol}'; ` + (near.length ? `upper and lower case matter: ${near.join(" or ")}?` : wanted(u)));
  }
  const v = +(m[1].replace(/,/g, "") + "e" + (+(m[2] || 0) + have[2])) / (m[3] || 1) * have[1] * 2 ** have[3] * power;
  if (!isFinite(v)) return fail(HUGE(text));
  const bare = !symbol;
  if (!bare && have[0] != base) return fail(`'${t}' measures ${have[0] || "a plain number"}; ${wanted(u)}`);
  return { v, base, bare };
};

// -> [state, message, index of the common error]
const judge = ({ v, base, bare }, { a, u, r, s, e }) => {
  const off = (x, least = 0, at = v) => Math.abs(at - x) <= (Math.max(r, least) * Math.abs(x) + s) * (1 + 1e-9);
  if (off(a)) return ["right", ""];
  const size = scale(u), alone = bare && size != 1;
  const forgot = ["retry", `Read as ${joined(v, base)}. Did you mean ${joined(v, u)}? Write the unit with the number.`];
  if (alone && off(a, 0, v * size)) return ["right", `Read as ${joined(v, u)}.`];
  const i = e.findIndex(x => off(x, .005));
  if (i >= 0) return ["wrong", "", i];
  if (a > 0 && v <= 0) return ["wrong", "The answer is above zero."];
  const q = v / a, f = Math.max(q, 1 / q);
  if (!(q > 0)) return ["wrong", v > a ? "Too high." : "Too low."];
  if (alone && f > 999 && q * size > .01 && q * size < 100) return forgot;
  for (const [k, why] of FACTORS) if ((base[0] == "B" || !why.includes("iB")) && Math.abs(f / k - 1) <= .005) return ["wrong", `Off by a factor of ${plain(k, 4)}: ${why}`];
  if (Math.abs(v * a - 1) <= .005) return ["wrong", "Upside down: you divided the other way round."];
  return ["wrong", `Too ${q > 1 ? "high" : "low"}, by ` + (f > 999 ? plain(Math.log10(f), 1) + " powers of ten." : `a factor of ${plain(f, f >= 2 ? 2 : 3)}.`)];
};

const miss = (guess, a) => {
  const p = Math.log2(guess / a), n = Math.abs(p).toFixed(1);
  return Math.abs(p) < .1 ? "on the spot"
    : `${n} power${n == "1.0" ? "" : "s"} of two too ${p > 0 ? "high" : "low"}, a factor of ${plain(2 ** Math.abs(p), 2)}`;
};
