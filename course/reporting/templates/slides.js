// Packs the pieces into slides by the heights that the browser measures, then hands them to reveal.js.
const HEIGHT = 640, WIDTH = 1160  // of a sheet, as in slides.css
const PADDING = 18  // at the right of code, too
const MOST = 1.15 * HEIGHT  // what a sheet takes: a little more than its height is made a little smaller
const slides = document.querySelector(".slides"), source = document.querySelector("#pieces")
const title = source.dataset.title
let column, sheet, heading = ""

const turns = piece => ["slide", "subslide"].includes(piece.dataset.start)
const heads = piece => piece.matches(":has(> :is(h1, h2, h3, h4))")

// A sheet on its own slide: to the right of the last one, or underneath.
function open(right) {
    if (right || !column) slides.append((column = document.createElement("section")))
    const slide = document.createElement("section"), running = document.createElement("p")
    sheet = document.createElement("div")
    sheet.className = "sheet"
    running.className = "running"
    running.textContent = heading && heading !== title ? `${title} · ${heading}` : title
    slide.append(sheet, running)
    column.append(slide)
}

// What is wider than the sheet (a long line of code, a table of many columns) becomes smaller as a whole.
function narrow(piece) {
    const parts = [piece, ...piece.querySelectorAll("pre, table, math, .html, img")]
    const wide = Math.max(...parts.filter(part => part.scrollWidth > part.clientWidth).map(part => part.scrollWidth))
    if (wide + PADDING > WIDTH) piece.style.zoom = WIDTH / (wide + PADDING)
}

const height = pieces => {
    source.replaceChildren(...pieces)
    return source.getBoundingClientRect().height
}

// Whether the pieces from `at` on that share this key with it would stand on one slide, but not on one with `held`.
function parted(key, at, held, waiting) {
    const value = waiting[at].dataset[key]
    if (value === undefined || waiting[at - 1]?.dataset[key] === value) return false
    let end = at + 1
    while (waiting[end]?.dataset[key] === value && !turns(waiting[end])) end += 1
    const unit = waiting.slice(at, end)
    return height(unit) <= MOST && height([...held, ...unit]) > MOST
}

function pack() {
    const waiting = [...source.children]
    waiting.forEach(piece => { source.replaceChildren(piece); narrow(piece) })
    let held = []
    const close = () => {
        const high = height(held)
        sheet.append(...held)
        if (high > HEIGHT) sheet.style.zoom = HEIGHT / high
    }
    waiting.forEach((piece, at) => {
        const alone = held.every(heads)  // a heading does not stay behind
        const full = !alone && (height([...held, piece]) > MOST || parted("thought", at, held, waiting) || parted("cell", at, held, waiting))
        if (!sheet || full || turns(piece)) {
            if (sheet) close()
            if (heads(piece)) heading = piece.textContent.trim()
            open(piece.dataset.start === "slide")
            held = []
        }
        if (piece.dataset.start === "fragment" && held.length) piece.classList.add("fragment")
        held.push(piece)
    })
    close()
    source.remove()
}

const pictures = [...document.images].map(picture => picture.decode().catch(() => {}))
Promise.all([document.fonts.ready, ...pictures]).then(() => {
    pack()
    return Reveal.initialize({
        width: 1280, height: 720, margin: 0, center: false, hash: true, slideNumber: "c/t", transition: "none",
        pdfSeparateFragments: false, pdfMaxPagesPerSlide: 1,
    })
})
