// Keeps a list at its newest entry until a person scrolls away from it.

const NEARLY = 60;

export class Follower {
  constructor(list) {
    this.list = list;
    this.isAtEnd = true;
    this.top = 0;
    list.addEventListener("scroll", () => this.note());
    // Whatever takes room from the list (the composer that is drawn after it, a longer draft, a narrower window) would
    // otherwise hide the newest entry, and count as having scrolled away.
    new ResizeObserver(() => this.follow()).observe(list);
  }

  // Notes where the list is; to be called before it changes as well, since the event comes a moment after the scrolling.
  note() {
    const { scrollHeight, scrollTop, clientHeight } = this.list;
    const isNear = scrollHeight - scrollTop - clientHeight < NEARLY;
    // Only scrolling up leaves the end: by the time of the event that `follow` causes, the list may have shrunk.
    if (isNear || scrollTop < this.top) this.isAtEnd = isNear;
    this.top = scrollTop;
  }

  // Goes to the end of another list of entries.
  restart() {
    this.isAtEnd = true;
    this.follow();
  }

  follow() {
    if (this.isAtEnd) this.list.scrollTop = this.list.scrollHeight;
  }
}
