// Numbers and names as people read them.

const NUMBER = new Intl.NumberFormat("en-GB");
const PRICE = new Intl.NumberFormat("en-GB", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

export const count = (value) => NUMBER.format(value);
export const price = (value) => (value === null || value === undefined ? "no price" : PRICE.format(value));
export const percent = (value, digits = 1) => `${(100 * value).toFixed(digits)} %`;
export const ms = (value) => (value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`);
export const decimal = (value, digits = 3) => value.toFixed(digits).replace("-", "−");
export const signed = (value, digits = 2) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;
export const several = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

export const AUDIENCES = { F: "women", M: "men" };
export const audience = (gender) => (gender ? AUDIENCES[gender] ?? gender : "everyone");

export const EVENTS = {
  view: "looked at",
  click: "interested in",
  add_to_cart: "added to cart",
  purchase: "bought",
  not_interested: "not interested in",
};

export const time = (seconds) =>
  new Date(1000 * seconds).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short", timeZone: "UTC" });
