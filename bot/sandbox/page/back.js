// The browser's Back: it goes back inside the page, and never leaves it with a form half filled.

const HERE = "here";
const BELOW = "below";

// Puts an entry under the page's own. Back lands there, is sent forward again, and `goBack()` does what it means here.
export function catchBack(goBack) {
  let isReturning = false;
  if (history.state !== HERE) { // after a reload both entries are there already
    history.replaceState(BELOW, "");
    history.pushState(HERE, "");
  }
  addEventListener("popstate", (event) => {
    if (isReturning) {
      isReturning = false;
      goBack(); // only now: what it writes into the address belongs to the upper entry
    } else if (event.state !== null) {
      isReturning = true;
      history.forward();
    }
  });
}

// Calls `go()` when a person has typed another address: only that makes an entry without a state.
export function onTypedAddress(go) {
  addEventListener("hashchange", () => history.state === null && location.hash.length > 1 && go());
}

export function showAddress(hash) {
  history.replaceState(HERE, "", hash);
}
