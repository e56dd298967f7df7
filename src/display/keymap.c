/* SPDX-License-Identifier: Apache-2.0 */
/*
 * display/keymap.c - keysyms (X11's keysymdef.h) to scan codes of set 2, US layout
 */
#include "display/input.h"

#include <strings.h>

/* Printable characters: the key, and whether shift gives it. */
static const struct {
	char low, high;
	uint8_t code;
} chars[] = {
    {'a', 'A', 0x1c}, {'b', 'B', 0x32},  {'c', 'C', 0x21}, {'d', 'D', 0x23},  {'e', 'E', 0x24},
    {'f', 'F', 0x2b}, {'g', 'G', 0x34},  {'h', 'H', 0x33}, {'i', 'I', 0x43},  {'j', 'J', 0x3b},
    {'k', 'K', 0x42}, {'l', 'L', 0x4b},  {'m', 'M', 0x3a}, {'n', 'N', 0x31},  {'o', 'O', 0x44},
    {'p', 'P', 0x4d}, {'q', 'Q', 0x15},  {'r', 'R', 0x2d}, {'s', 'S', 0x1b},  {'t', 'T', 0x2c},
    {'u', 'U', 0x3c}, {'v', 'V', 0x2a},  {'w', 'W', 0x1d}, {'x', 'X', 0x22},  {'y', 'Y', 0x35},
    {'z', 'Z', 0x1a}, {'1', '!', 0x16},  {'2', '@', 0x1e}, {'3', '#', 0x26},  {'4', '$', 0x25},
    {'5', '%', 0x2e}, {'6', '^', 0x36},  {'7', '&', 0x3d}, {'8', '*', 0x3e},  {'9', '(', 0x46},
    {'0', ')', 0x45}, {'-', '_', 0x4e},  {'=', '+', 0x55}, {'[', '{', 0x54},  {']', '}', 0x5b},
    {';', ':', 0x4c}, {'\'', '"', 0x52}, {'`', '~', 0x0e}, {'\\', '|', 0x5d}, {',', '<', 0x41},
    {'.', '>', 0x49}, {'/', '?', 0x4a},  {' ', ' ', 0x29},
};

static const struct {
	uint32_t keysym;
	uint8_t code;
	bool extended;
	const char *name, *other;
} keys[] = {
    {0xff0d, 0x5a, false, "enter", "return"},  {0xff1b, 0x76, false, "escape", "esc"},
    {0xff08, 0x66, false, "backspace", NULL},  {0xff09, 0x0d, false, "tab", NULL},
    {0x0020, 0x29, false, "space", NULL},      {0xffe3, 0x14, false, "ctrl", "control"},
    {0xffe4, 0x14, true, "rightctrl", NULL},   {0xffe1, 0x12, false, "shift", NULL},
    {0xffe2, 0x59, false, "rightshift", NULL}, {0xffe9, 0x11, false, "alt", NULL},
    {0xffea, 0x11, true, "altgr", "rightalt"}, {0xfe03, 0x11, true, NULL, NULL},
    {0xffe7, 0x1f, true, NULL, NULL},          {0xffeb, 0x1f, true, "super", "win"},
    {0xffec, 0x27, true, "rightsuper", NULL},  {0xff67, 0x2f, true, "menu", NULL},
    {0xffe5, 0x58, false, "capslock", NULL},   {0xff7f, 0x77, false, "numlock", NULL},
    {0xff14, 0x7e, false, "scrolllock", NULL}, {0xffff, 0x71, true, "delete", "del"},
    {0xff63, 0x70, true, "insert", NULL},      {0xff50, 0x6c, true, "home", NULL},
    {0xff57, 0x69, true, "end", NULL},         {0xff55, 0x7d, true, "pageup", NULL},
    {0xff56, 0x7a, true, "pagedown", NULL},    {0xff52, 0x75, true, "up", NULL},
    {0xff54, 0x72, true, "down", NULL},        {0xff51, 0x6b, true, "left", NULL},
    {0xff53, 0x74, true, "right", NULL},       {0xffbe, 0x05, false, "f1", NULL},
    {0xffbf, 0x06, false, "f2", NULL},         {0xffc0, 0x04, false, "f3", NULL},
    {0xffc1, 0x0c, false, "f4", NULL},         {0xffc2, 0x03, false, "f5", NULL},
    {0xffc3, 0x0b, false, "f6", NULL},         {0xffc4, 0x83, false, "f7", NULL},
    {0xffc5, 0x0a, false, "f8", NULL},         {0xffc6, 0x01, false, "f9", NULL},
    {0xffc7, 0x09, false, "f10", NULL},        {0xffc8, 0x78, false, "f11", NULL},
    {0xffc9, 0x07, false, "f12", NULL},        {0xff61, 0x7c, true, "print", "sysrq"},
    {0xffb0, 0x70, false, NULL, NULL}, /* the keypad */
    {0xffb1, 0x69, false, NULL, NULL},         {0xffb2, 0x72, false, NULL, NULL},
    {0xffb3, 0x7a, false, NULL, NULL},         {0xffb4, 0x6b, false, NULL, NULL},
    {0xffb5, 0x73, false, NULL, NULL},         {0xffb6, 0x74, false, NULL, NULL},
    {0xffb7, 0x6c, false, NULL, NULL},         {0xffb8, 0x75, false, NULL, NULL},
    {0xffb9, 0x7d, false, NULL, NULL},         {0xffae, 0x71, false, NULL, NULL},
    {0xffab, 0x79, false, NULL, NULL},         {0xffad, 0x7b, false, NULL, NULL},
    {0xffaa, 0x7c, false, NULL, NULL},         {0xffaf, 0x4a, true, NULL, NULL},
    {0xff8d, 0x5a, true, NULL, NULL},
};

bool keymap_find(uint32_t keysym, struct keymap_key *ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(chars); i++) {
		if (keysym == (uint8_t)chars[i].low || keysym == (uint8_t)chars[i].high) {
			*ret = (struct keymap_key){.code = chars[i].code,
						   .shift = keysym != (uint8_t)chars[i].low};
			return true;
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		if (keysym == keys[i].keysym) {
			*ret =
			    (struct keymap_key){.code = keys[i].code, .extended = keys[i].extended};
			return true;
		}
	}
	return false;
}

static bool is_name(const char *name, const char *text, size_t len)
{
	return name && strlen(name) == len && strncasecmp(name, text, len) == 0;
}

uint32_t keymap_name(const char *name, size_t len)
{
	struct keymap_key k;

	if (len == 1 && keymap_find((uint8_t)name[0], &k))
		return (uint8_t)name[0];
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (is_name(keys[i].name, name, len) || is_name(keys[i].other, name, len))
			return keys[i].keysym;
	return 0;
}
