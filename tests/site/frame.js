// What axe leaves out: one h1, a title, a name for all that only `tabindex` makes focusable, breadcrumbs on
// each page below a section, and dates and times as <time>, unless they are data.
() => {
  const DATE = /\b\d{1,2} (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\b|\b\d\d:\d\d\b/;
  const AS_DATA = `time, code, pre, option, textarea, svg, script, style, ins, del, dd.mono,
    .help, .tip, .x-axis, .toast, [role=alert]`;
  const seen = [...document.querySelectorAll("h1")].filter((one) => one.checkVisibility());
  const found = seen.length === 1 ? [] : [`${seen.length} h1`];
  if (!/^\S.* · Apperate$/.test(document.title)) found.push(`title ${document.title}`);
  const links = [...document.querySelectorAll("#sidebar .nav-link")].map((link) => link.getAttribute("href"));
  const sections = [...links, "/account/2fa/"].filter((url) => location.pathname.startsWith(url));
  // A section's own page again, with what was wrong in a form; and a refusal, which is no page of a section.
  const title = seen[0]?.textContent.trim();
  const own = document.querySelector("#sidebar .nav-link[aria-current]")?.textContent.trim();
  const isPlace = title !== own && title !== "Only admins can do this";
  if (isPlace && links.length && sections.length && !sections.includes(location.pathname)) {
    const path = document.querySelector("main .crumbs");
    if (!path?.querySelector("a[href]") || !path.querySelector("[aria-current=page]"))
      found.push("no breadcrumbs");
  }
  for (const time of document.querySelectorAll("time"))
    if (Number.isNaN(Date.parse(time.dateTime)) || !time.title) found.push(`time: ${time.outerHTML}`);
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = words.nextNode(); text; text = words.nextNode())
    if (DATE.test(text.data) && !text.parentElement.closest(AS_DATA))
      found.push(`not in <time>: ${text.data.trim()}`);
  for (const one of document.querySelectorAll("[tabindex='0']"))
    if (!one.ariaLabel && !one.getAttribute("aria-labelledby") && !one.textContent.trim())
      found.push(`nameless: ${one.outerHTML.slice(0, 120)}`);
  return found;
};
