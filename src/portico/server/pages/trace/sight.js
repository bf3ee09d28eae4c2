// What is in view of something wide that scrolls, known without asking the browser: to tell, it would lay out the page
// again after each change.

const NEAR = 24; // pixels from the end that count as the end

export class Sight {
  left = 0;
  follows = true; // the end, as what is wide grows
  #scroller;
  #width = 0;
  #whole = 0;

  /** `onmove()` is called when the scroller has scrolled, `onresize()` when its own width has changed. */
  constructor(scroller, onmove, onresize) {
    this.#scroller = scroller;
    scroller.addEventListener("scroll", () => {
      if (Math.abs(scroller.scrollLeft - this.left) >= 1) this.#moved(scroller.scrollLeft); // it was the reader
      onmove();
    });
    new ResizeObserver(() => {
      this.#width = scroller.clientWidth;
      onresize();
    }).observe(scroller);
    new ResizeObserver(() => (scroller.scrollLeft = this.left)).observe(scroller.firstElementChild); // wide enough for it now
  }

  get width() {
    return (this.#width ||= this.#scroller.clientWidth);
  }

  #moved(left) {
    this.left = left;
    this.follows = left + this.width >= this.#whole - NEAR;
  }

  /** What is seen is so wide now; `end` where its end is to be in view. */
  resize(whole, end) {
    this.#whole = whole;
    if (end) this.left = Math.max(0, whole - this.width);
  }

  scrollTo(left) {
    this.left = Math.min(Math.max(0, left), Math.max(0, this.#whole - this.width));
    this.#scroller.scrollLeft = this.left;
  }
}
