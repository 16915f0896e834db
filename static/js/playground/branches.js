// Where a conversation goes several ways: the branches that begin in one place, one of which is shown.

export class Branches {
  /** `shown` are the exchanges of the branch that is shown. */
  constructor(shown) {
    this.tails = [shown];
    this.at = 0;
  }

  /** What `data` gave once, with the branch that is shown in its place; `revive` makes exchanges of data. */
  static of(others, at, shown, revive) {
    const branches = new Branches(shown);
    branches.tails = others.map(revive);
    branches.at = Math.min(at, branches.tails.length);
    branches.tails.splice(branches.at, 0, shown);
    for (const [head] of branches.tails) head.branches = branches;
    return branches;
  }

  get count() {
    return this.tails.length;
  }

  /** Another branch that is shown from now on, instead of `shown`, which is kept. */
  add(shown, head) {
    this.tails[this.at] = shown;
    this.tails.push([head]);
    this.before = this.at;
    this.at = this.tails.length - 1;
    head.branches = this;
  }

  /** Show branch `number` instead of `shown`; its exchanges. */
  turn(shown, number) {
    this.tails[this.at] = shown;
    this.at = number;
    return this.tails[number];
  }

  /** Give up the branch that is shown; the exchanges of the one before it. */
  drop() {
    this.tails.splice(this.at, 1);
    this.at = Math.min(this.before ?? 0, this.tails.length - 1);
    const shown = this.tails[this.at];
    if (this.tails.length === 1) shown[0].branches = null;
    return shown;
  }

  /** {others, at} to keep: without branches that nobody answered. */
  data() {
    const others = [];
    let { at } = this;
    for (const [number, tail] of this.tails.entries()) {
      if (number === this.at) continue;
      const kept = tailData(tail, false);
      if (kept.length) others.push(kept);
      else if (number < this.at) at -= 1;
    }
    return others.length ? { others, at } : {};
  }
}

/** What is kept of exchanges that follow each other; `whole`: with the branches of the first, too. */
export function tailData(exchanges, whole = true) {
  const kept = [];
  for (const [number, exchange] of exchanges.entries()) {
    const data = exchange.data();
    if (!data) continue;
    const branches = (whole || number > 0) && exchange.branches;
    kept.push(branches ? { ...data, ...branches.data() } : data);
  }
  return kept;
}
